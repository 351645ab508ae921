"""The kinds of seeds, in the order in which they are made and labelled."""

from __future__ import annotations

from typing import Final

CONFIG_TYPES: Final = (
    "bulk", "eos", "shear", "rattle", "sqs", "vacancy", "interstitial", "antisite", "surface", "stacking_fault",
    "dimer", "trimer", "liquid",
)  # fmt: skip
