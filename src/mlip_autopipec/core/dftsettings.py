"""Settings that every plane-wave engine shares: k-points, spin, charge, vacuum. They decide a label's numbers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.magnetism import MAGNETIC, starting_moments

METAL_KSPACING: Final = 0.15
"""1/A, 2 pi included. Forces in a carved cell of a hot sp metal, 12.4 A: 16 meV/A from those of twice as many points
along each axis; at 0.20 it is 33 meV/A (tests/unit/engines/test_espresso_physics.py)."""

# One spacing for all labels: with Gamma alone even an 8.4 A cell of aluminium is wrong by 0.5 eV/A.
KSpacing = Annotated[
    float,
    Field(
        gt=0.02, le=5, description=f"1/A (2 pi included), largest distance of k-points; metals need {METAL_KSPACING}"
    ),
]


class DftSettings(BaseModel):
    """Base of an engine's label settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kspacing: KSpacing = METAL_KSPACING
    # A cell without magnetic atoms has no moment, so that its energy is the same with spin and without.
    nspin: Literal[1, 2] | None = Field(
        None, description="1: no spin; 2: collinear spin; default: 2 for cells with Fe, Co, Ni, Mn or Cr"
    )
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict,
        description="Bohr magnetons per element that the SCF begins with; default: free atom's for Fe, Co, Ni, Mn, Cr",
    )
    magnetic_order: Literal["ferro", "antiferro"] = Field(
        "ferro", description="antiferro: moments start with opposite signs on magnetic neighbours, as in NiO and Cr"
    )
    total_charge: float = Field(0.0, ge=-10, le=10, description="e, of the cell; its energy depends on the cell's size")
    vacuum: float = Field(10.0, ge=3, le=100, description="A of vacuum at least, along directions without period")
    isolated_box: float = Field(
        12.0, ge=6, le=100, description="A, edge of the box of an isolated atom; without spin unless nspin is 2"
    )

    @field_validator("magnetic_moments")
    @classmethod
    def _moments_of_elements(cls, value: dict[str, float]) -> dict[str, float]:
        for element, moment in value.items():
            if element == "X" or element not in atomic_numbers:
                raise ValueError(f"{element!r} is no element symbol; write e.g. Fe")
            if abs(moment) > 10:
                raise ValueError(f"{element}: no atom has {moment:g} Bohr magnetons; give -10 to 10")
        return value

    @model_validator(mode="after")
    def _moments_need_spin(self) -> DftSettings:
        if self.nspin == 1 and self.magnetic_moments:
            raise ValueError("labeller.magnetic_moments: has no meaning without spin; set nspin: 2 or remove it")
        return self

    def moments(self, atoms: Atoms, *, isolated: bool = False) -> FloatArray | None:
        """Return (N,) the moments that the SCF begins with, Bohr magnetons; None for a calculation without spin.

        Parameters
        ----------
        isolated
            One free atom: with nspin 2 it begins with its own moment (Hund's rule), whatever the element.
        """
        symbols = set(atoms.get_chemical_symbols())
        has_spin = self.nspin == 2 or (self.nspin is None and bool(symbols & {*MAGNETIC, *self.magnetic_moments}))
        if not has_spin:
            return None
        every = isolated and self.nspin == 2
        return starting_moments(atoms, self.magnetic_moments, self.magnetic_order, every_element=every)
