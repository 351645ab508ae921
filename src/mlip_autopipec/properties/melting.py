"""A short melt beside the hot solid: how much energy lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import Atoms, units
from ase.md.nptberendsen import NPTBerendsen

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.properties.crystal import heights
from mlip_autopipec.properties.property import Property, Value

# kB times the melting temperature over bulk modulus times volume per atom, from Ar to Mo (after Lindemann).
_MELTING_RATIO: Final = 0.011
_OVERHEATED: Final = 2.0
_HOTTER: Final = 1.4
_TRIES: Final = 4
# Of the distance between neighbours: atoms of a solid never go so far from their sites.
_LIQUID: Final = 0.6
_FRAMES: Final = 5
_ATOMS: Final = 100


@dataclass(frozen=True)
class MeltFrames:
    """Frames of both phases at one temperature and no pressure.

    Attributes
    ----------
    temperature : K
    solid, liquid : frames without calculator
    """

    temperature: float
    solid: Sequence[Atoms]
    liquid: Sequence[Atoms]


def melting_guess(volume: float, bulk_modulus: float) -> float:
    """Return a temperature near melting, K, of a volume per atom (A^3) and a bulk modulus (GPa)."""
    return float(_MELTING_RATIO * bulk_modulus * units.GPa * volume / units.kB)


def melt_frames(
    crystal: Atoms, calculator: Any, temperature: float, bulk_modulus: float, *, steps: int = 1500, seed: int = 0
) -> MeltFrames:
    """Melt a crystal by overheating, bring it back to `temperature`, and sample it beside the solid.

    Berendsen's thermostat and barostat at zero pressure, doi:10.1063/1.448118.

    Parameters
    ----------
    crystal
        At rest.
    temperature
        K.
    bulk_modulus
        GPa, for the barostat.
    steps
        MD steps of each stretch; twice as many in the liquid, which has to settle first.

    Raises
    ------
    DataError
        It does not melt, or boils away.
    """
    rng = np.random.default_rng(seed)
    big = _big(crystal)
    solid = big.copy()
    frames = _run(solid, calculator, temperature, bulk_modulus, steps, rng)
    if _is_liquid(big, solid):
        raise DataError(f"the solid melts at {temperature:.0f} K", "give a lower --melting-temperature")
    liquid, heat = big.copy(), _OVERHEATED * temperature
    for _ in range(_TRIES):
        _run(liquid, calculator, heat, bulk_modulus, steps, rng)
        if _is_liquid(big, liquid):
            break
        heat *= _HOTTER
    else:
        raise DataError(f"it does not melt at {heat / _HOTTER:.0f} K within {steps} steps", "raise --md-steps")
    _run(liquid, calculator, temperature, bulk_modulus, steps, rng)
    return MeltFrames(temperature, frames, _run(liquid, calculator, temperature, bulk_modulus, steps, rng))


def solid_liquid(frames: MeltFrames, calculator: Any) -> Property:
    """Return the difference of mean potential energies of liquid and solid frames, meV/atom."""
    solid, liquid = (_energies(phase, calculator) for phase in (frames.solid, frames.liquid))
    volumes = [float(np.mean([a.get_volume() / len(a) for a in phase])) for phase in (frames.solid, frames.liquid)]
    difference = 1e3 * float(liquid.mean() - solid.mean())
    return Property(
        "melting",
        {"liquid - solid": Value(difference, "meV/atom")},
        {
            "temperature": frames.temperature,
            "volumes": volumes,
            "solid": solid.tolist(),
            "liquid": liquid.tolist(),
        },
    )


def _energies(frames: Sequence[Atoms], calculator: Any) -> FloatArray:
    found = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        found.append(atoms.get_potential_energy() / len(atoms))
    return np.asarray(found, dtype=float)


def _big(crystal: Atoms) -> Atoms:
    """Return a supercell of about 100 atoms, as near to a cube as it goes."""
    repeats = np.ones(3, dtype=int)
    while len(crystal) * repeats.prod() < _ATOMS:
        repeats[int(np.argmin(np.asarray(heights(crystal)) * repeats))] += 1
    big: Atoms = crystal.repeat(repeats.tolist())
    big.calc = None
    return big


def _run(
    atoms: Atoms, calculator: Any, temperature: float, bulk_modulus: float, steps: int, rng: np.random.Generator
) -> list[Atoms]:
    """Run MD in place at zero pressure; return frames of its second half."""
    atoms.calc = calculator
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    step = float(np.clip(np.sqrt(atoms.get_masses().min() / 7.0), 0.4, 3.0)) * units.fs
    dynamics = NPTBerendsen(
        atoms, step, temperature_K=temperature, pressure_au=0.0, taut=50 * step, taup=200 * step,
        compressibility_au=1 / (bulk_modulus * units.GPa),
    )  # fmt: skip
    frames, start = [], atoms.get_volume()
    half = steps - steps // 2
    for n in [half] + [steps // 2 // _FRAMES] * _FRAMES:
        dynamics.run(n)
        if not 0.3 * start < atoms.get_volume() < 3 * start or not np.isfinite(atoms.positions).all():
            raise DataError(f"MD at {temperature:.0f} K falls apart", "the potential does not know the melt")
        frame = atoms.copy()
        frame.calc = None
        frames.append(frame)
    return frames[1:]


def _is_liquid(sites: Atoms, atoms: Atoms) -> bool:
    """True if atoms are far from their sites: root mean square above 0.6 of the distance between neighbours."""
    moved = (atoms.get_scaled_positions(wrap=False) - sites.get_scaled_positions(wrap=False)) @ sites.cell.array
    moved -= moved.mean(axis=0)
    distances = sites.get_all_distances(mic=True)
    nearest = distances[distances > 0.1].min()
    return bool(np.sqrt((moved**2).sum(axis=1).mean()) > _LIQUID * nearest)
