"""What labels weigh: pacemaker's kappa, pacemaker's energy windows, and that a refit still costs its new labels."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace.growing import GrowingRows
from mlip_autopipec.ace.linear import solve
from mlip_autopipec.core.interfaces import Design
from mlip_autopipec.stages.train import TrainingSettings, Weighting, relative_energy
from mlip_autopipec.stages.train.hull import lower_hull
from mlip_autopipec.store.dataset import DatasetRow

ISOLATED = {"Al": -1.0, "Cu": -2.0}
SIZE = 4


def label(number: int, above: float, *, symbols: str = "Al4", bottom: float = -3.0, whole: bool = True) -> DatasetRow:
    """A label at `above` eV per atom over `bottom`, forces of about 1 eV/A."""
    rng = np.random.default_rng(number)
    atoms = Atoms(symbols, positions=2.5 * rng.random((SIZE, 3)) + np.arange(SIZE)[:, None], cell=[9] * 3, pbc=True)
    energy = SIZE * (bottom + above) + sum(ISOLATED[s] for s in atoms.get_chemical_symbols())
    mask = (1,) * SIZE if whole else (1, 0, 0, 1)
    return DatasetRow(str(number), atoms, energy, rng.normal(size=(SIZE, 3)), None, mask, "bulk")


@pytest.mark.parametrize("kappa", [0.0, 0.2, 0.75, 1.0])
def test_kappa_is_the_share_of_the_forces(kappa):
    """One coefficient, of which energies say 1 and forces say 2: (1 - kappa) (c - 1)^2 + kappa (c - 2)^2."""
    rows = [label(n, 0.0) for n in range(3)]
    settings = TrainingSettings(energy_weight=37.0, force_weight=0.3, kappa=kappa)
    weighting = Weighting(rows, settings, ISOLATED)

    def give(place):
        row = rows[place]
        energy = np.array([relative_energy(row, ISOLATED)])
        # Per atom the same error for each, as the squared error of a unit coefficient.
        unit = np.sqrt(np.mean(energy / SIZE) ** 2 / np.sum(row.forces**2, axis=1))
        pull = row.forces * unit[:, None]
        return [
            (part, type(one)(**{**vars(one), "design": Design(energy, pull[:, :, None], {}), "forces": 2 * pull}))
            for part, one in weighting.parts(row, Design(energy, pull[:, :, None], {}))
        ]

    triangle = GrowingRows(1).triangle([row.task_id for row in rows], give, weighting.scales)
    assert solve(triangle, ridge=0.0).coefficients[0] == pytest.approx((1 - kappa) * 1 + kappa * 2, rel=1e-12)


@pytest.mark.parametrize("low_share", [None, 0.75])
def test_a_window_weighs_as_pacemaker_does(python_ace, low_share):
    pandas = pytest.importorskip("pandas")
    from pyace.preparedata import EnergyBasedWeightingPolicy

    rows = [label(n, above) for n, above in enumerate((0.0, 0.1, 0.7, 2.1, 5.0))]
    window = {"width": 0.5, "force_width": 1.5, "threshold": 1.0, "low_share": low_share}
    weighting = Weighting(rows, TrainingSettings(energy_window=window), ISOLATED)
    table = pandas.DataFrame(
        {
            "ase_atoms": [row.atoms for row in rows],
            "forces": [row.forces for row in rows],
            "NUMBER_OF_ATOMS": [SIZE] * len(rows),
            "energy_corrected_per_atom": [relative_energy(row, ISOLATED) / SIZE for row in rows],
        }
    )
    policy = EnergyBasedWeightingPolicy(
        DElow=1.0, DEup=100.0, DE=0.5, DF=1.5**2, wlow=low_share, energy="cohesive", seed=1
    )
    theirs = policy.generate_weights(table).sort_index()
    ours = [weighting.of(row) for row in rows]
    energies = np.array([one.energy for one in ours])
    forces = np.array([one.forces for one in ours])
    np.testing.assert_allclose(energies / energies.sum(), theirs["w_energy"], rtol=1e-12)
    np.testing.assert_allclose(forces / forces.sum(), np.array(theirs["w_forces"].tolist()), rtol=1e-12)
    plain = Weighting(rows, TrainingSettings(), ISOLATED)
    assert energies.sum() == pytest.approx(sum(plain.of(row).energy for row in rows))
    assert forces.sum() == pytest.approx(sum(plain.of(row).forces.sum() for row in rows))


def test_a_window_is_measured_from_the_hull_of_whole_cells():
    """A carved cell's own energy is no state of the material; a mixture of two phases is."""
    rows = [
        label(0, 0.0),
        label(1, 0.0, symbols="Cu4", bottom=-4.0),
        label(2, 0.0, symbols="Al2Cu2", bottom=-3.2),
        label(3, -2.0, whole=False),
    ]
    window = {"width": 1.0, "force_width": 1e4}
    weights = Weighting(rows, TrainingSettings(energy_window=window, masked_energy_weight=100.0), ISOLATED)
    energy = [weights.of(row).energy for row in rows]
    # Halfway between -3 and -4 the mixture has -3.5: the alloy is 0.3 above it.
    assert energy[2] / energy[0] == pytest.approx(1.3**-2)
    assert energy[1] == energy[0] == energy[3]


def test_the_hull_of_a_ternary_is_the_best_mixture():
    corners = [Atoms("Al"), Atoms("Cu"), Atoms("Ni"), Atoms("AlCu"), Atoms("AlCu")]
    at = [Atoms("AlCu"), Atoms("AlCuNi2"), Atoms("Al3Cu"), Atoms("Au")]
    found = lower_hull(corners, [-1.0, -2.0, -4.0, -3.0, -2.5], at)
    assert found == pytest.approx([-3.0, -3.5, -2.0, -4.0])


@pytest.mark.parametrize("more", [{"kappa": 0.5}, {"energy_window": {}}, {"kappa": 0.9, "energy_window": {}}])
def test_a_refit_reads_only_what_is_new_though_all_weights_change(more):
    """A slightly lower energy moves nothing, a much lower one makes all anew; both end with the bits of a first fit."""
    rows = [label(n, 0.1 + 0.2 * n) for n in range(6)]
    read: list[str] = []

    def triangle(growing, rows):
        weighting = Weighting(rows, TrainingSettings(**more), ISOLATED)

        def give(place):
            read.append(rows[place].task_id)
            rng = np.random.default_rng(place)
            return weighting.parts(rows[place], Design(rng.normal(size=7), rng.normal(size=(SIZE, 3, 7)), {}))

        keys = [(row.task_id, weighting.key(row)) for row in rows]
        return growing.triangle(keys, give, weighting.scales)

    growing = GrowingRows(7)
    triangle(growing, rows[:4])
    for grown, reread in ((rows, 0), ([*rows, label(8, 0.02)], 0), ([*rows, label(8, 0.02), label(9, -1.0)], 7)):
        read.clear()
        found = triangle(growing, grown)
        moved = reread if "energy_window" in more else 0
        assert len(read) - moved in (1, 2)
        anew = triangle(GrowingRows(7), grown)
        assert (found.matrix.tobytes(), found.rest) == (anew.matrix.tobytes(), anew.rest)


def test_the_smoothness_prior_prices_n_and_l():
    """Two columns that explain the same: the share of each goes with the inverse square of its price."""
    from mlip_autopipec.ace.linear import RowReducer, stiffness_of

    reducer = RowReducer(2)
    reducer.add(np.ones((5, 2)), np.full(5, 3.0))
    stiffness = stiffness_of([2, 2], 1.0, degrees=[1, 3], smoothness=2.0)
    found = solve(reducer.triangle(), stiffness, ridge=1e-9).coefficients
    assert found.sum() == pytest.approx(3.0, rel=1e-6)
    assert found[0] / found[1] == pytest.approx((4**2 / 2**2) ** 2)
