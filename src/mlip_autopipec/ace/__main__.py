"""``python -m mlip_autopipec.ace`` compiles the kernels, about a minute once per machine; later it only loads them."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.neighbours import neighbourhood


def main() -> None:
    """Compute everything once, for two atoms."""
    recipe = BasisRecipe(("Al",), {"ALL": FunctionLimits((2, 1), (0, 1))}, {"ALL": RadialSettings(rcut=4.0)})
    configuration = standard_configuration(recipe)
    pair = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]])
    AceBasis(configuration).design(pair)
    potential = from_basis(make_basis(configuration))
    evaluator = AceEvaluator(potential, {"Al": np.eye(potential.n_functions[0])}, threads=1)
    evaluator.evaluate(neighbourhood(pair, evaluator.cutoff, evaluator.elements), gamma=True)


if __name__ == "__main__":
    main()
