"""What a potential file says, as records: bonds, embeddings, functions. Species are indices in alphabetical order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlip_autopipec.ace.overlay import Overlay

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DEFAULT_SPLINE_STEP = 0.001
INNER_CUTOFF_TYPES = ("density", "distance", "zbl")
EMBEDDING_KINDS = ("FinnisSinclair", "FinnisSinclairShiftedScaled")


@dataclass(frozen=True, eq=False)
class Bond:
    """Radial functions and core repulsion of one ordered pair of species.

    Attributes
    ----------
    radbase : kind of the radial basis, see `radial.KINDS`
    nradbase : number of radial basis functions g_k
    radparameters : parameters of the kind; the first is lambda
    radcoefficients : (nradmax, lmax + 1, nradbase), R_nl = sum_k c[n][l][k] g_k
    rcut, dcut : outer cutoff and width of the extra taper before it, A
    r_in, delta_in : inner cutoff and width of its switch, A
    inner_cutoff_type : "density", "distance" or "zbl"
    prehc, lambdahc : strength and exponent of the core repulsion
    cutoff_function : name without effect, kept for the round trip
    """

    radbase: str
    nradbase: int
    radparameters: tuple[float, ...]
    radcoefficients: FloatArray
    rcut: float
    dcut: float
    r_in: float = 0.0
    delta_in: float = 0.0
    inner_cutoff_type: str = "density"
    prehc: float = 0.0
    lambdahc: float = 0.0
    cutoff_function: str = "cos"

    @property
    def nradmax(self) -> int:
        return int(self.radcoefficients.shape[0])

    @property
    def lmax(self) -> int:
        return int(self.radcoefficients.shape[1]) - 1

    @property
    def has_core(self) -> bool:
        """Whether the pair changes energies beside its functions: by a repulsion, or by switching ACE off (zbl)."""
        return self.prehc != 0.0 or (self.inner_cutoff_type == "zbl" and self.r_in > 0.0)

    def equals(self, other: Bond) -> bool:
        """Return whether both describe the same radial functions, bit for bit."""
        mine, theirs = vars(self), vars(other)
        return np.array_equal(self.radcoefficients, other.radcoefficients) and all(
            mine[key] == theirs[key] for key in mine if key not in ("radcoefficients", "cutoff_function")
        )


@dataclass(frozen=True)
class Embedding:
    """How densities rho_p become the energy of an atom: E = sum_p w_p F(rho_p; m_p).

    Attributes
    ----------
    kind : "FinnisSinclair" or "FinnisSinclairShiftedScaled"
    parameters : (w_1, m_1, w_2, m_2, ...), w in eV
    rho_core_cut, drho_core_cut : core repulsion at which ACE is off and width of that switch, eV
    """

    kind: str = "FinnisSinclair"
    parameters: tuple[float, ...] = (1.0, 1.0)
    rho_core_cut: float = 100000.0
    drho_core_cut: float = 250.0

    @property
    def ndensity(self) -> int:
        return len(self.parameters) // 2


@dataclass(frozen=True)
class FunctionSpec:
    """One B-function as a `.yaml` file has it.

    Attributes
    ----------
    elements : the centre, then the neighbour of each slot
    ns, ls : (rank,) radial index (1-based) and angular momentum of each slot
    LS : (rank - 2,) intermediate angular momenta of the coupling tree
    coefficients : (ndensity,)
    skip : left out of the potential
    """

    elements: tuple[str, ...]
    ns: tuple[int, ...]
    ls: tuple[int, ...]
    LS: tuple[int, ...]
    coefficients: tuple[float, ...]
    skip: bool = False

    @property
    def rank(self) -> int:
        return len(self.ns)


@dataclass(frozen=True, eq=False)
class Block:
    """The functions of one centre (first element) and one set of neighbour elements.

    `embedding` belongs to one-element blocks; `bond` to one- and two-element blocks (a two-element block may
    leave it to its reverse block).
    """

    elements: tuple[str, ...]
    functions: tuple[FunctionSpec, ...]
    embedding: Embedding | None = None
    bond: Bond | None = None


@dataclass(frozen=True, eq=False)
class Configuration:
    """A `.yaml` file: B-basis with coefficients.

    Attributes
    ----------
    auxdata : kept as text, kind -> name -> scalar or list
    spline_step : width of the bins of the look-up splines, A
    overlay : a pair style that is added to the potential; it stands in the file's metadata
    """

    blocks: tuple[Block, ...]
    spline_step: float = DEFAULT_SPLINE_STEP
    metadata: Mapping[str, str] = field(default_factory=dict)
    auxdata: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)
    overlay: Overlay | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        """Every element of the file, alphabetical: the order of species indices."""
        return tuple(sorted({element for block in self.blocks for element in block.elements}))


@dataclass(frozen=True, eq=False)
class ProductFunction:
    """One function of a `.yace` file: sum over m-vectors of ctilde * Re prod_t A.

    Attributes
    ----------
    mus, ns, ls : (rank,) neighbour species, radial index (1-based), angular momentum of each slot
    ms : (n_ms, rank)
    ctildes : (n_ms, ndensity)
    """

    mus: tuple[int, ...]
    ns: tuple[int, ...]
    ls: tuple[int, ...]
    ms: IntArray
    ctildes: FloatArray

    @property
    def rank(self) -> int:
        return len(self.ns)


@dataclass(frozen=True, eq=False)
class ProductPotential:
    """A `.yace` file: C-tilde potential.

    Attributes
    ----------
    isolated_energies : (n_elements,) eV, added to each atom's energy
    embeddings : per species
    bonds : (mu_i, mu_j) -> Bond, all ordered pairs
    functions : per central species, in file order
    overlay : a pair style that is added to the potential
    """

    elements: tuple[str, ...]
    isolated_energies: tuple[float, ...]
    embeddings: tuple[Embedding, ...]
    bonds: Mapping[tuple[int, int], Bond]
    functions: tuple[tuple[ProductFunction, ...], ...]
    spline_step: float = DEFAULT_SPLINE_STEP
    overlay: Overlay | None = None

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return max(bond.rcut for bond in self.bonds.values())
