"""All properties of a material by one calculator, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.properties.compression import equation_of_state, lattice
from mlip_autopipec.properties.crystal import energy_per_atom, is_cubic
from mlip_autopipec.properties.defects import solutes, swaps, vacancy
from mlip_autopipec.properties.elastic import elastic_constants
from mlip_autopipec.properties.melting import MeltFrames, melt_frames, melting_guess, solid_liquid
from mlip_autopipec.properties.phonons import phonons
from mlip_autopipec.properties.property import Property
from mlip_autopipec.properties.relaxation import relax_cell
from mlip_autopipec.properties.surfaces import surface_energies

PROPERTIES: Final = ("lattice", "eos", "elastic", "phonons", "vacancy", "surfaces", "solutes", "swaps", "melting")


@dataclass(frozen=True)
class Demand:
    """What is wanted of a crystal.

    Attributes
    ----------
    properties : some of `PROPERTIES`
    length : A, between periodic images of a defect
    melting_temperature : K; None: guessed from the bulk modulus
    md_steps : of each stretch of MD
    pure : element -> relaxed crystal, for solutes; none if the potential has one element
    """

    properties: Collection[str] = PROPERTIES
    length: float = 10.0
    melting_temperature: float | None = None
    md_steps: int = 1500


@dataclass
class Outcome:
    """What one calculator says of one crystal.

    Attributes
    ----------
    found : property -> what was computed
    failed : property -> why not
    frames : of solid and liquid, for another calculator to look at
    """

    found: dict[str, Property] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    frames: MeltFrames | None = None


def validate(
    crystal: Atoms,
    calculator: Any,
    demand: Demand,
    *,
    pure: Mapping[str, float] | None = None,
    frames: MeltFrames | None = None,
    tell: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Compute the properties of a crystal; one that fails stops no other.

    Parameters
    ----------
    crystal
        Conventional cell; it is relaxed first.
    pure
        Element -> eV per atom in its own relaxed crystal, by the same calculator: of two or more, for `solutes`.
    frames
        Of solid and liquid, made by another calculator: then no MD is run.
    tell
        Called with the name of what comes next.

    Raises
    ------
    AutopipeError
        The crystal does not come to rest: nothing can be said of it.
    """
    tell("lattice")
    relaxed = relax_cell(crystal, calculator)
    outcome = Outcome(frames=frames)
    single = len(set(relaxed.get_chemical_symbols())) == 1
    recipes: dict[str, Callable[[], Property]] = {
        "lattice": lambda: lattice(relaxed),
        "eos": lambda: equation_of_state(relaxed, calculator),
        "elastic": lambda: elastic_constants(relaxed, calculator),
        "phonons": lambda: phonons(relaxed, calculator, demand.length),
        "melting": lambda: _melting(relaxed, calculator, demand, outcome),
    }
    if single:
        recipes["vacancy"] = lambda: vacancy(relaxed, calculator, demand.length)
        if is_cubic(relaxed):
            recipes["surfaces"] = lambda: surface_energies(relaxed, calculator)
        if pure is not None and len(pure) > 1 and relaxed.get_chemical_symbols()[0] in pure:
            recipes["solutes"] = lambda: solutes(relaxed, calculator, demand.length, pure)
    else:
        recipes["swaps"] = lambda: swaps(relaxed, calculator, demand.length)
    for name in PROPERTIES:
        if name in demand.properties and name in recipes:
            tell(name)
            try:
                outcome.found[name] = recipes[name]()
            except (AutopipeError, PropertyNotImplementedError, ArithmeticError, RuntimeError, ValueError) as error:
                outcome.failed[name] = str(error)
    return outcome


def pure_energies(crystals: Mapping[str, Atoms], calculator: Any) -> dict[str, float]:
    """Return element -> eV per atom in its relaxed crystal."""
    return {element: energy_per_atom(relax_cell(crystal, calculator)) for element, crystal in crystals.items()}


def _melting(relaxed: Atoms, calculator: Any, demand: Demand, outcome: Outcome) -> Property:
    if outcome.frames is None:
        compressed = outcome.found.get("eos") or equation_of_state(relaxed, calculator)
        modulus = compressed.values["bulk modulus"].number
        if modulus <= 0:
            raise DataError(f"the bulk modulus is {modulus:.3g} GPa, so MD has no barostat")
        guess = melting_guess(compressed.values["V0"].number, modulus)
        temperature = demand.melting_temperature or guess
        outcome.frames = melt_frames(relaxed, calculator, temperature, modulus, steps=demand.md_steps)
    return solid_liquid(outcome.frames, calculator)
