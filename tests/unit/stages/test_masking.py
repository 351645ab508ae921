"""Training masks: which atoms of a carved cell teach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.stages.masking import Limits, Masking, expected
from mlip_autopipec.store.dataset import DatasetRow


def row(name: str, distances: tuple[float, ...], mask: tuple[int, ...], forces: tuple[float, ...]) -> DatasetRow:
    """Atoms on a line with these distances, and these sizes of their forces."""
    place = np.cumsum([0.0, *distances])
    atoms = Atoms(f"Al{len(place)}", positions=np.outer(place, [1, 0, 0]))
    return DatasetRow(
        task_id=name, atoms=atoms, energy=0.0, forces=np.outer(forces, [0, 0.6, 0.8]), stress=None, force_mask=mask,
        config_type="active_learning",
    )  # fmt: skip


# Learned: pairs down to 2.5 A and forces up to 3 eV/A.
TAUGHT = row("taught", (2.5, 2.9), (1, 1, 1), (3.0, 1.0, 2.0))
# Atom 0 is learned, 3 and 4 are in contact, 5 feels a large force.
CARVED = row("carved", (2.8, 2.8, 3.5, 2.2, 3.5), (1, 0, 0, 0, 0, 0), (1.0, 2.9, 0.1, 0.1, 0.1, 3.1))


def test_radius_leaves_the_labels_masks() -> None:
    rows, limits = Masking("radius", 100.0).masked([TAUGHT, CARVED])
    assert [r.force_mask for r in rows] == [TAUGHT.force_mask, CARVED.force_mask]
    assert limits is None


def test_sane_masks_contacts_and_large_forces_only() -> None:
    rows, limits = Masking("sane", 100.0).masked([TAUGHT, CARVED])
    assert rows[1].taught == (1, 1, 1, 0, 0, 0)
    assert rows[0] is TAUGHT
    assert limits is not None
    assert limits.shortest == {"Al-Al": pytest.approx(2.5)}
    assert limits.force == pytest.approx(3.0)


def test_a_cell_without_contacts_teaches_with_all_its_atoms_but_not_its_energy() -> None:
    calm = row("calm", (2.6, 2.9), (0, 1, 0), (1.0, 1.0, 1.0))
    rows, _ = Masking("sane", 100.0).masked([TAUGHT, calm])
    assert rows[1].learned.all()
    assert not rows[1].whole


def test_a_closer_learned_pair_admits_more() -> None:
    masking = Masking("sane", 100.0)
    before, _ = masking.masked([TAUGHT, CARVED])
    after, _ = masking.masked([TAUGHT, CARVED, row("close", (2.1,), (1, 1), (1.0, 1.0))])
    assert before[1].taught == (1, 1, 1, 0, 0, 0)
    assert after[1].taught == (1, 1, 1, 1, 1, 0)


def test_a_label_made_again_is_looked_at_again() -> None:
    masking = Masking("sane", 100.0)
    masking.masked([TAUGHT, CARVED])
    apart = replace(row("carved", (2.8, 2.8, 3.5, 2.6, 3.5), CARVED.force_mask, (1.0,) * 6), edition=1)
    assert masking.masked([TAUGHT, apart])[0][1].learned.all()


def test_none_takes_all_but_forces_beyond_the_limit() -> None:
    rows, _ = Masking("none", 3.05).masked([TAUGHT, CARVED])
    assert rows[1].taught == (1, 1, 1, 1, 1, 0)


def test_what_learned_atoms_have_is_never_masked() -> None:
    """Also where another element's pair was never trained."""
    mixed = row("mixed", (2.0, 2.8), (1, 0, 0), (9.0, 0.1, 0.1))
    mixed.atoms.symbols[1] = "Cu"
    rows, limits = Masking("sane", 100.0).masked([TAUGHT, mixed])
    assert rows[1].learned[0]
    assert limits is not None
    assert limits.shortest["Al-Cu"] == pytest.approx(2.0)


def test_before_the_label_distances_tell() -> None:
    limits = Limits({"Al-Al": 2.5}, 3.0)
    assert Limits.from_dict(limits.to_dict()) == limits
    assert expected(CARVED.atoms, CARVED.force_mask, "sane", limits).tolist() == [True, True, True, False, False, True]
    assert expected(CARVED.atoms, CARVED.force_mask, "radius", None).tolist() == [True] + 5 * [False]
    assert expected(CARVED.atoms, CARVED.force_mask, "none", None).all()
