"""What a power spectrum is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from mlip_autopipec.core.errors import ConfigError

# Where the narrowest primitive has decayed to `gto.THRESHOLD`, A.
NARROWEST_A = 1.0


@dataclass(frozen=True)
class SoapSettings:
    """Settings of SOAP, with the meaning that dscribe gives them (Himanen et al., doi:10.1016/j.cpc.2019.106949).

    Attributes
    ----------
    species : every element that may occur; kept in the order of atomic numbers
    r_cut : where the radial basis ends, A; atoms up to `reach` count, since they are Gaussians of width `sigma`
    n_max : number of radial functions
    l_max : largest angular momentum
    sigma : width of the Gaussians, A

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    species: tuple[str, ...]
    r_cut: float = 5.0
    n_max: int = 8
    l_max: int = 6
    sigma: float = 1.0

    def __post_init__(self) -> None:
        unknown = [s for s in self.species if s not in atomic_numbers or s == "X"]
        if unknown or not self.species or len(set(self.species)) < len(self.species):
            wrong = f"unknown {' '.join(unknown)}" if unknown else f"{list(self.species)}"
            raise ConfigError(f"soap.species: {wrong}", "give each chemical symbol once")
        if not (math.isfinite(self.r_cut) and self.r_cut > NARROWEST_A):
            raise ConfigError(f"soap.r_cut: {self.r_cut} A must be above {NARROWEST_A} A", "5 A is a good start")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ConfigError(f"soap.sigma: {self.sigma} A must be positive", "0.5 to 1 A is usual")
        if self.n_max < 1:
            raise ConfigError(f"soap.n_max: {self.n_max} must be at least 1", "8 is a good start")
        if self.l_max < 0:
            raise ConfigError(f"soap.l_max: {self.l_max} must not be negative", "6 is a good start")
        object.__setattr__(self, "species", tuple(sorted(self.species, key=atomic_numbers.__getitem__)))

    @property
    def reach(self) -> float:
        """Largest distance of an atom that counts, A: where the flank of its Gaussian at `r_cut` is 0.001."""
        return self.r_cut + self.sigma * float(np.sqrt(-2.0 * np.log(1e-3)))

    @property
    def n_features(self) -> int:
        """Length of one power spectrum."""
        channels = len(self.species) * self.n_max
        return channels * (channels + 1) // 2 * (self.l_max + 1)
