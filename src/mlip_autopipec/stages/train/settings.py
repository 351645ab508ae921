"""Settings of the fit: functions, weights, prior, and when to refit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip_autopipec.ace.basis_size import LENGTH_POWER, RUNGS
from mlip_autopipec.ace.generator import (
    LARGEST_L,
    BasisRecipe,
    FunctionLimits,
    RadialSettings,
    standard_configuration,
)
from mlip_autopipec.ace.records import Configuration, Embedding
from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings

# Six bodies around an atom are more than any published potential has.
_LARGEST_RANK = 6
# A, before there are labels that say how dense the material is.
_UNDECIDED = 6.0


class BasisSettings(BaseModel):
    """Which functions the potential is made of. The defaults give 79 functions for one element."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float | None = Field(
        6.0,
        gt=1,
        le=15,
        description="A; neighbours farther away are not seen; null: by the density of the labels of the first fit, so "
        "that half of the atoms see 40 neighbours",
    )
    radial_basis: Literal["ChebExpCos", "ChebPow", "SBessel"] = Field(
        "ChebExpCos", description="family of radial functions, pacemaker's names; ChebExpCos resolves short distances"
    )
    radial_decay: float = Field(
        5.25,
        gt=0,
        le=20,
        description="dimensionless lambda of ChebExpCos and ChebPow: larger resolves short distances better",
    )
    # Pair functions are cheap and carry most of the energy; angular ones get dear fast.
    nradmax_by_orders: tuple[int, ...] = Field(
        (10, 4, 2, 1), description="number of radial functions by rank (pairs, triples, …)"
    )
    lmax_by_orders: tuple[int, ...] = Field((0, 3, 2, 1), description="largest angular momentum by rank; 0 for pairs")

    @field_validator("nradmax_by_orders")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= _LARGEST_RANK or min(value) < 1 or max(value) > 30:
            raise ValueError(f"needs 1 to {_LARGEST_RANK} numbers between 1 and 30, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if len(self.nradmax_by_orders) != len(self.lmax_by_orders):
            raise ValueError("nradmax_by_orders and lmax_by_orders need one number per rank each")
        for rank, (lmax, largest) in enumerate(zip(self.lmax_by_orders, LARGEST_L, strict=False), start=1):
            if not 0 <= lmax <= largest:
                raise ValueError(
                    f"lmax_by_orders: {lmax} for rank {rank}, the tables of invariants have 0 to {largest}"
                )
        return self

    def configuration(self, elements: Sequence[str], cutoff: float | None = None) -> Configuration:
        """Return the functions between `elements`, all coefficients zero.

        No inner cutoff: one would make the functions vanish at short distances and blind the extrapolation grade there.

        Parameters
        ----------
        cutoff
            A, in place of a `cutoff` that labels will decide.
        """
        limits = FunctionLimits(self.nradmax_by_orders, self.lmax_by_orders)
        rcut = self.cutoff or cutoff or _UNDECIDED
        radial = RadialSettings(rcut=rcut, radbase=self.radial_basis, radparameters=(self.radial_decay,))
        linear = Embedding(kind="FinnisSinclairShiftedScaled", parameters=(1.0, 1.0))
        recipe = BasisRecipe(tuple(sorted(elements)), {"ALL": limits}, {"ALL": radial}, linear)
        return standard_configuration(recipe)


class EnergyWindow(BaseModel):
    """Labels of low energy and small forces weigh more: the weights of pacemaker's EnergyBasedWeightingPolicy.

    A label at D eV per atom above the convex hull of the whole cells weighs (width / (D + width))^2, an atom's force F
    that times force_width^2 / (F^2 + force_width^2). The sums over all labels stay what they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float = Field(1.0, gt=0, le=100, description="eV per atom; pacemaker's DE")
    # pacemaker's DF is the square.
    force_width: float = Field(1.0, gt=0, le=1e4, description="eV/A; square root of pacemaker's DF")
    threshold: float = Field(
        1.0, gt=0, le=100, description="eV per atom above the hull that divides low from high; pacemaker's DElow"
    )
    low_share: float | None = Field(
        None, gt=0, lt=1, description="share of the low ones in all weights, pacemaker's wlow; null: as it comes"
    )


class LennardJonesSettings(BaseModel):
    """Lennard-Jones of one pair of elements: 4 epsilon ((sigma/r)^12 - (sigma/r)^6)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: float = Field(gt=0, le=1e4, description="eV")
    sigma: float = Field(gt=0, le=15, description="A")
    # A longer cutoff adds attraction, which ACE can learn as well.
    cutoff: float | None = Field(
        None,
        gt=0,
        le=15,
        description="A; null: its minimum 2^(1/6) sigma, so that it only repels; at a longer one the force jumps",
    )


class TrainingSettings(BasisSettings):
    """The fit, and when to refit."""

    functions: Literal["given", "ladder"] = Field(
        "given",
        description="given: those of nradmax_by_orders and lmax_by_orders; ladder: as many as the labels carry (one "
        "for 15 force components), more as labels come, up to largest_rung: a fit from the start each time",
    )
    largest_rung: int = Field(
        9,
        ge=RUNGS[0],
        le=RUNGS[-1],
        description="dimensionless degree of triples at which functions: ladder ends; higher ones are more accurate, "
        "and every MD step takes longer",
    )
    engine: Literal["ace", "pyace"] = Field(
        "ace",
        description="who computes the fit's rows: ace (our own), or pyace (python-ace: academic licence, an extra)",
    )
    trainer: Literal["linear", "pacemaker"] = Field(
        "linear",
        description="who makes versions: linear (seconds), or pacemaker, refining the linear one (minutes to hours)",
    )
    final: Literal["none", "pacemaker"] = Field(
        "none", description="pacemaker refines the last version once all walkers have ended and all labels are in"
    )
    pacemaker: PacemakerSettings = Field(
        default_factory=PacemakerSettings, description="of trainer: pacemaker and final: pacemaker"
    )
    min_new_labels: int = Field(
        5, ge=1, le=100_000, description="labels that start a refit; fewer do when no more can come"
    )
    min_initial_labels: int = Field(
        10, ge=1, le=100_000, description="labels that start the first fit; fewer do when no more can come"
    )
    # Errors of energies per atom are some 20 times smaller than those of force components, in eV and eV/A.
    energy_weight: float = Field(
        100.0, ge=0, le=1e8, description="dimensionless weight of squared energy errors (eV^2 per atom) of whole cells"
    )
    force_weight: float = Field(
        1.0, ge=0, le=1e8, description="dimensionless weight of squared errors of learned force components (eV/A)^2"
    )
    # A carved cell's energy holds the energies of its masked, unphysical rim.
    masked_energy_weight: float = Field(
        0.0, ge=0, le=1e8, description="dimensionless, as energy_weight, for carved cells"
    )
    group_weights: dict[str, float] = Field(
        default_factory=dict, description="dimensionless; config_type -> factor of the weights of its labels, above 0"
    )
    kappa: float | None = Field(
        None, ge=0, le=1, description="share of the forces in the loss, as pacemaker's; null: as the weights above say"
    )
    energy_window: EnergyWindow | None = Field(
        None,
        description="labels of low energy weigh more, as by pacemaker's EnergyBasedWeightingPolicy; null: all alike",
    )
    train_mask: Literal["radius", "sane", "none"] = Field(
        "radius",
        description="atoms of carved cells that teach: radius: those within embedding.cutoff; sane: all but contacts "
        "and forces beyond what those have; none: all, up to force_limit. Their energies weigh masked_energy_weight",
    )
    baseline: Literal["none", "zbl", "lj"] = Field(
        "none",
        description="what pushes atoms apart below 0.79 of the shortest trained distance, where ACE is switched off: "
        "zbl: repulsion of bare nuclei; lj: Lennard-Jones; none: nothing, only gamma warns there",
    )
    baseline_form: Literal["in-file", "overlay"] | None = Field(
        None,
        description="in-file: potential.yaml has it in its own keys, and it is felt only there; overlay: LAMMPS' pair "
        "style is added to ACE (hybrid/overlay), which learns the rest; null: in-file for zbl, overlay for lj",
    )
    zbl_cutoffs: tuple[float, float] | None = Field(
        None,
        description="A, of baseline zbl as overlay: where it begins to fade out, and where it is 0, for all pairs; "
        "null: 0.8 of the shortest trained distance, and that distance, of the pair that stays farthest apart",
    )
    lj_pairs: dict[str, LennardJonesSettings] = Field(
        default_factory=dict,
        description="of baseline lj: pair, like Al-Cu -> its numbers; of others epsilon is 0.1 eV, sigma the shortest "
        "trained distance, of untrained pairs 0.85 of the sum of covalent radii",
    )
    ridge: float | None = Field(
        None, ge=0, le=1, description="dimensionless strength of the regularisation; null lets the evidence choose"
    )
    rank_stiffness: float = Field(
        1.0, ge=1, le=1e6, description="dimensionless; how much closer to zero each further rank is held; 1 is equally"
    )
    smoothness: float = Field(
        0.0,
        ge=0,
        le=10,
        description="dimensionless p: a function is held closer to zero by (1 + sum of n - 1 and l of its factors)^p",
    )
    reference_energies: Literal["isolated"] | dict[str, float] = Field(
        "isolated", description="eV of one free atom per element, or `isolated`: the run's labeller computes them once"
    )
    # Chemical bonds never pull with more than about 10 eV/A; squeezed pairs push with some 50.
    force_limit: float = Field(
        100.0, gt=0, description="eV/A; a label with a larger learned force is refused, with the reason"
    )
    refuse_contradictions: bool = Field(
        True, description="leave out labels that contradict all the others: wrong units, forces of other atoms"
    )
    gate_tolerance: float = Field(
        0.25,
        ge=0,
        le=10,
        description="relative; a version whose error on a group of held-out labels grew by more stays a candidate",
    )
    use_changed_smearing: bool = Field(
        True, description="fit labels for which only a larger smearing converged (labeller.accept_changed_smearing)"
    )

    @field_validator("group_weights")
    @classmethod
    def _above_zero(cls, value: dict[str, float]) -> dict[str, float]:
        for group, factor in value.items():
            if not 0 < factor <= 1e8:
                raise ValueError(
                    f"{group}: {factor} is not between 0 and 1e8; `autopipe dataset drop` leaves labels out"
                )
        return value

    @model_validator(mode="after")
    def _one_baseline(self) -> Self:
        if self.baseline == "lj" and self.baseline_form == "in-file":
            raise ValueError("baseline_form: potential files have no keys for lj: leave it out, or write overlay")
        if self.lj_pairs and self.baseline != "lj":
            raise ValueError(f"lj_pairs: has no meaning with baseline: {self.baseline}; write baseline: lj")
        if self.zbl_cutoffs and (self.baseline, self.form_of_baseline) != ("zbl", "overlay"):
            raise ValueError("zbl_cutoffs: only of baseline: zbl with baseline_form: overlay")
        return self

    @property
    def labels_decide(self) -> bool:
        """Whether functions or cutoff follow from labels."""
        return self.functions == "ladder" or self.cutoff is None

    @property
    def length_power(self) -> float:
        """How the prior measures columns, see `ace.linear.solve`: smooth radial functions come with their own."""
        return LENGTH_POWER if self.functions == "ladder" else 1.0

    @property
    def form_of_baseline(self) -> Literal["none", "in-file", "overlay"]:
        """Where the baseline stands: in the potential file's keys, or in a pair style that is added."""
        if self.baseline == "none":
            return "none"
        return self.baseline_form or ("overlay" if self.baseline == "lj" else "in-file")

    @property
    def teaches_forces(self) -> bool:
        """Whether any force enters a fit."""
        return self.force_weight > 0 and self.kappa != 0

    def teaches_energy(self, *, whole: bool) -> bool:
        """Whether the energies of whole, or of carved cells enter a fit."""
        return (self.energy_weight if whole else self.masked_energy_weight) > 0 and self.kappa != 1

    @property
    def basis(self) -> BasisSettings:
        """The part that says which functions there are."""
        return BasisSettings(**{name: getattr(self, name) for name in BasisSettings.model_fields})
