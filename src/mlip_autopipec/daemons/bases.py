"""Which functions a fit has, and which engine computes their rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.records import Configuration
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import LinearBasis
from mlip_autopipec.stages.train import TrainingSettings


def make_basis(
    training: TrainingSettings, elements: Sequence[str], potential: Path | None = None, *, baseline: bool = False
) -> LinearBasis:
    """Return the basis that `training` describes.

    Parameters
    ----------
    potential
        .yaml whose functions are taken instead; those of other elements than `elements` are left out.
    baseline
        `potential` may have one: its functions are what they are for gamma.

    Raises
    ------
    ModelError
        `potential` does not know an element, or is not linear.
    EngineError
        The engine is not installed.
    """
    if potential is None:
        configuration = training.basis.configuration(elements)
    else:
        configuration = _functions_of(potential, elements, baseline=baseline)
    return basis_of(training, configuration)


def basis_of(training: TrainingSettings, configuration: Configuration) -> LinearBasis:
    """Return functions as a basis by the engine of the fit.

    Raises
    ------
    EngineError
        The engine is not installed.
    """
    if training.engine == "ace":
        from mlip_autopipec.ace.fitting import AceBasis

        return AceBasis(configuration)
    from mlip_autopipec.core.neighbours import neighbourhood
    from mlip_autopipec.engines.pacemaker.basis import PyaceBasis, read_basis

    with tempfile.TemporaryDirectory(prefix="autopipe-") as folder:
        file = Path(folder) / "basis.yaml"
        write_yaml(configuration, file)
        return PyaceBasis(read_basis(file), neighbourhood)


def warm_up(basis: LinearBasis) -> None:
    """Let the engine load or compile what a fit and its gate need, on two atoms."""
    if basis.elements:
        pair = Atoms(basis.elements[:1] * 2, positions=[[0, 0, 0], [0, 0, basis.cutoff / 2]])
        basis.design(pair)
        basis.projections(pair)


def _functions_of(potential: Path, elements: Sequence[str], *, baseline: bool) -> Configuration:
    from mlip_autopipec.ace.baseline import without_baseline
    from mlip_autopipec.ace.fitting import blank, refuse_nonlinear

    found = read_yaml(potential)
    try:
        configuration = blank(without_baseline(found) if baseline else found, elements)
        refuse_nonlinear(configuration)
    except ModelError as error:
        hint = "leave start.potential out and let the run fit its own"
        raise ModelError(f"{potential}: cannot be refitted by a linear fit: {error.message}", hint) from error
    return configuration
