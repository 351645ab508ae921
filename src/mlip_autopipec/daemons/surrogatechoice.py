"""Who explores before the first labels, of a run whose user may not have said: a foundation model that is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import ConfigError

_ANALYTIC: Final = ("emt", "lj")
_POTENTIALS: Final = (".yaml", ".yace")
_NONE: Final = "none"


@dataclass(frozen=True)
class SurrogateChoice:
    """A surrogate, or none.

    Attributes
    ----------
    section : of `explore` in `autopipe.yaml`, `model` as it was given; None: the seeds alone are labelled
    reason : why
    file : what `model` names, to be copied into the run directory; None for a name
    """

    section: Mapping[str, Any] | None
    reason: str
    file: Path | None = None


def choose_surrogate(asked: str | None, labeller: Mapping[str, Any]) -> SurrogateChoice:
    """Return the surrogate that is asked for; else a MACE model whose weights are here, where labels are dear.

    Parameters
    ----------
    asked
        none, emt, lj, a file (.yaml and .yace: an ACE potential, else a MACE model), or the name of a MACE model.
    labeller
        The section `labeller`.

    Raises
    ------
    ConfigError
        MACE is asked for and not installed, or has no model of this name.
    """
    if asked is not None:
        return _asked(asked)
    if labeller.get("engine") in ("teacher", "ase"):
        return SurrogateChoice(None, "the labeller costs no more than a surrogate: the seeds alone are labelled")
    from mlip_autopipec.engines.mace.foundation import DEFAULTS, fetched_models

    here = fetched_models()
    for name in DEFAULTS:
        if name in here:
            return SurrogateChoice(
                {"kind": "mace", "model": name}, f"mace-torch is installed, and the weights of {name} are here"
            )
    return SurrogateChoice(
        None,
        "no MACE model at hand: the seeds alone are labelled (pip install 'mlip-autopipec[mace]', then init "
        f"--surrogate {DEFAULTS[0]})",
    )


def _asked(asked: str) -> SurrogateChoice:
    file = Path(asked)
    if asked == _NONE:
        return SurrogateChoice(None, "asked for: the seeds alone are labelled")
    if asked in _ANALYTIC:
        return SurrogateChoice({"kind": asked}, "asked for; an analytic potential")
    if file.is_file():
        kind = "potential" if file.suffix in _POTENTIALS else "mace"
        return SurrogateChoice({"kind": kind, "model": asked}, f"asked for; {file.name} is copied to the run", file)
    if file.suffix or "/" in asked:
        raise ConfigError(
            f"--surrogate {asked}: file not found", "give a file, the name of a MACE model, emt, lj or none"
        )
    from mlip_autopipec.engines.mace.foundation import require_name

    require_name(asked)
    return SurrogateChoice({"kind": "mace", "model": asked}, "asked for; its weights are fetched once, at the start")
