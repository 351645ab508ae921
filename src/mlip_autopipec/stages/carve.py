"""halt -> carve: periodic embedding + force mask -> task file in queue/dft/pending.

Reads: the halted frame and the atom that `watch` picked. Writes: one task; now and then a whole cell goes with it
(`wholecells`). Next: `label`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.store.task import Task
from mlip_autopipec.structures.embedding import Carved, extract_periodic_subsystem
from mlip_autopipec.structures.fidelity import Fidelity, evaluate, measure
from mlip_autopipec.structures.neutrality import NotNeutral

# The centre is what is asked about: its grade in the cell must be the one that it has in the parent.
GAMMA_RATIO = (0.9, 1.1)
# A, by which the buffer grows; one step adds about a tenth to the atoms.
_GROWTH_A = 0.25
# A; isolated molecules and clusters end growing when nothing more is around.
_LARGEST_GROWTH_A = 10.0
# Buffers that are tried before a cell that cannot be made neutral is an error.
_ATTEMPTS_TO_BALANCE = 8


class NoFaithfulCell(DataError):  # noqa: N818  says what is
    """No cell within `embedding.max_atoms` repeats the core's forces well enough, so nothing is sent."""


class EmbeddingSettings(BaseModel):
    """How the region around an uncertain atom becomes a small periodic cell. Lengths in A."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # At equal atoms the dodecahedron is the most faithful cell of a liquid: `scripts/bench embedding`, README.
    mode: Literal["dodecahedron", "box", "sphere", "snap", "cell"] = Field(
        "dodecahedron",
        description="dodecahedron: every atom of a rhombic dodecahedron, the densest cell around a sphere; box: of a "
        "cube; sphere: of the sphere in that cube; snap: a box whose edges fit the crystal's own repeats; cell: the "
        "whole frame, where it is small",
    )
    cutoff: float = Field(3.0, gt=0, le=30, description="A; forces on atoms closer than this to the centre are learned")
    buffer_size: float = Field(
        2.0,
        ge=0,
        le=30,
        description="A; atoms between are computed but masked; 2 A or more heals the parent's atom; grows if needed",
    )
    # A margin below 0.1 eV/A, since a potential's own error is in what it says: README.
    max_core_force_error: float | None = Field(
        0.07,
        gt=0,
        le=100,
        description="eV/A; RMS difference of the core's forces in cell and frame, by the current potential, up to "
        "which a cell is sent; the buffer grows until then. null: it is measured and stored, and nothing is refused",
    )
    max_atoms: int = Field(100, ge=1, le=10_000, description="atoms of the largest cell that is sent")
    seam_move: float = Field(
        0.0, ge=0, le=0.3, description="A; atoms outside the core may move so far to calm the new boundary; 0: never"
    )
    whole_molecules: bool = Field(True, description="molecules are in the cell, or left out, as a whole")
    neutral: bool = Field(
        True, description="cells of ionic materials keep the frame's formula: the outermost surplus ions are left out"
    )
    oxidation_states: dict[str, float] = Field(
        {}, description="e by element; cells then get a sum of zero; needed where the formula does not tell"
    )
    whole_cell_fraction: float = Field(
        0.1, ge=0, lt=1, description="share of labels that are whole small cells of the same phase, nothing masked"
    )
    whole_cell_atoms: int = Field(32, ge=2, le=500, description="atoms of such a whole cell, about")

    @field_validator("oxidation_states")
    @classmethod
    def _elements(cls, value: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(value) - set(atomic_numbers))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no element; give symbols, e.g. {{Na: 1, Cl: -1}}")
        return value


@dataclass(frozen=True)
class Cell:
    """A carved cell and how faithful it is.

    Attributes
    ----------
    mode, buffer_size : how it was cut; the buffer in A
    fidelity : None if no potential was asked
    """

    carved: Carved
    mode: str
    buffer_size: float
    fidelity: Fidelity | None

    def to_dict(self) -> dict[str, Any]:
        """Return what is stored with the task; JSON-ready, null where a number is not finite."""
        facts: dict[str, Any] = {
            "mode": self.mode,
            "buffer_size": round(self.buffer_size, 6),
            "atoms": len(self.carved.atoms),
            "contacts": self.carved.contacts,
            "largest_move": self.carved.largest_move,
        }
        if self.fidelity is not None:
            facts |= self.fidelity.to_dict()
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in facts.items()}


@dataclass(frozen=True)
class Extraction:
    """A task and what was remarkable about its cell."""

    task: Task
    warnings: tuple[str, ...]
    center: int  # index of the centre atom in the cell


def choose_cell(
    frame: Atoms,
    center: int,
    settings: EmbeddingSettings,
    *,
    potential_cutoff: float,
    evaluator: Evaluator | None = None,
    parent: Evaluation | None = None,
    more_than: int = 0,
    or_best: bool = False,
) -> Cell:
    """Return the smallest cell that is faithful enough.

    The buffer grows from `settings.buffer_size`; the last resort is the whole frame, where it is small.

    Parameters
    ----------
    potential_cutoff
        A; a cell smaller than this does not repeat the centre's environment, which is a warning.
    evaluator
        The current potential; None cuts the first cell without asking.
    parent
        What the potential says about the frame, if that is known already.
    more_than
        Only cells with more atoms than this are wanted.
    or_best
        Where none is faithful enough, return the one that is most faithful.

    Raises
    ------
    NoFaithfulCell
        None within `settings.max_atoms` is; with `or_best`: there is none.
    """
    if evaluator is not None and parent is None:
        parent = evaluate(evaluator, frame)
    closest = f"the smallest has more than embedding.max_atoms {settings.max_atoms}"
    best: Cell | None = None
    least = math.inf
    for carved, mode, buffer_size in _cells(frame, center, settings, potential_cutoff):
        if len(carved.atoms) <= more_than:
            continue
        fidelity = None
        if evaluator is not None and parent is not None:
            fidelity = measure(carved, evaluate(evaluator, carved.atoms), parent)
        cell = Cell(carved, mode, buffer_size, fidelity)
        limit = settings.max_core_force_error
        if fidelity is None or limit is None or _is_faithful(fidelity, limit):
            return cell
        if best is None or fidelity.force_error < least:
            best, least = cell, fidelity.force_error
            closest = f"the best one has {len(carved.atoms)} atoms, {_said(fidelity)}"
    if or_best and best is not None:
        return best
    if more_than:
        closest = f"with more than {more_than} atoms {closest}"
    raise NoFaithfulCell(
        f"embedding: atom {center}: no cell of up to {settings.max_atoms} atoms is faithful: {closest}",
        "raise embedding.max_atoms or embedding.max_core_force_error, or lower embedding.cutoff",
    )


def _is_faithful(fidelity: Fidelity, limit: float) -> bool:
    low, high = GAMMA_RATIO
    return fidelity.force_error <= limit and (fidelity.gamma_ratio is None or low <= fidelity.gamma_ratio <= high)


def _said(fidelity: Fidelity) -> str:
    ratio = "" if fidelity.gamma_ratio is None else f", gamma ratio {fidelity.gamma_ratio:.3g}"
    return f"core-force error {fidelity.force_error:.3g} eV/A{ratio}"


def _cells(
    frame: Atoms, center: int, settings: EmbeddingSettings, potential_cutoff: float
) -> Iterator[tuple[Carved, str, float]]:
    """Yield ever larger cells of up to `max_atoms`; without a demand on the fidelity the first, whatever its size."""

    def cut(buffer_size: float, mode: str) -> Carved:
        return extract_periodic_subsystem(
            frame,
            center,
            settings.cutoff,
            buffer_size,
            mode,
            # Where the fidelity is demanded, the grade of the centre tells whether the cell is large enough.
            potential_cutoff=potential_cutoff if settings.max_core_force_error is None else None,
            whole_molecules=settings.whole_molecules,
            neutral=settings.neutral,
            oxidation_states=settings.oxidation_states,
            seam_move=settings.seam_move,
        )

    most = math.inf if settings.max_core_force_error is None else settings.max_atoms
    buffer_size, size, left = settings.buffer_size, 0, _ATTEMPTS_TO_BALANCE
    unbalanced: NotNeutral | None = None
    while settings.mode != "cell" and size < len(frame):
        try:
            carved = cut(buffer_size, settings.mode)
        except NotNeutral as error:
            left -= 1
            if not left:
                unbalanced = error
                break
        else:
            left = _ATTEMPTS_TO_BALANCE
            if len(carved.atoms) > most:
                break
            if len(carved.atoms) > size:
                size = len(carved.atoms)
                yield carved, settings.mode, buffer_size
            elif size and buffer_size > settings.buffer_size + _LARGEST_GROWTH_A:
                break
        buffer_size += _GROWTH_A
    if len(frame) <= settings.max_atoms:
        yield cut(settings.buffer_size, "cell"), "cell", settings.buffer_size
    elif unbalanced is not None and not size:
        raise NoFaithfulCell(unbalanced.message, unbalanced.hint) from unbalanced


def carve_task(
    frame: Atoms,
    center: int,
    *,
    settings: EmbeddingSettings,
    potential_cutoff: float,
    labeller: Mapping[str, Any],
    origin: Mapping[str, Any],
    created: str,
    evaluator: Evaluator | None = None,
    more_than: int = 0,
    or_best: bool = False,
    is_known: Callable[[str], bool] = lambda task_id: False,
) -> Extraction:
    """Cut the region around atom `center` out of `frame` and make a labelling task of it.

    Parameters
    ----------
    frame
        Halted frame with the per-atom array `gamma`.
    potential_cutoff
        A; a cell smaller than this does not repeat the centre's environment, which is a warning.
    origin
        walker, step and potential version.
    evaluator
        The current potential, which tells how faithful a cell is; None: nobody is asked.
    more_than, or_best
        As in `choose_cell`.
    is_known
        Tells if a task id has its label in the current potential: the same carve would bring nothing, so a larger
        one is made.

    Raises
    ------
    NoFaithfulCell
        No cell within `settings.max_atoms` is faithful enough.
    """
    parent = None if evaluator is None else evaluate(evaluator, frame)
    while True:
        cell = choose_cell(
            frame,
            center,
            settings,
            potential_cutoff=potential_cutoff,
            evaluator=evaluator,
            parent=parent,
            more_than=more_than,
            or_best=or_best,
        )
        carved = cell.carved
        task = Task.new(
            carved.atoms,
            [int(m) for m in carved.force_mask],
            dict(labeller),
            priority=float(frame.arrays["gamma"][center]),
            origin={**origin, "center": int(center), "removed": len(carved.removed), "embedding": cell.to_dict()},
            config_type="active_learning",
            created=created,
        )
        if not is_known(task.id):
            break
        more_than = len(carved.atoms)
    warnings = list(carved.warnings)
    if carved.removed:
        reasons = sorted({removal.reason for removal in carved.removed})
        warnings.append(f"{len(carved.removed)} atom(s) at the new boundary left out: {', '.join(reasons)}")
    return Extraction(task, tuple(warnings), carved.center)
