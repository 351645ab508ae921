"""Carving: which atoms, which cell, which mask."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.neighborlist import neighbor_list

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.embedding import Carved, extract_periodic_subsystem

FACES = [(axis, end) for axis in range(3) for end in (0, 9)]


def chain(**cell: object) -> Atoms:
    return Atoms("Ar101", positions=[(float(i), 0.0, 0.0) for i in range(101)], **cell)


def grid(spacing: float = 4.0, n: int = 10) -> Atoms:
    positions = spacing * np.array(list(product(range(n), repeat=3)), dtype=float)
    return Atoms(f"Ar{n**3}", positions=positions, cell=[n * spacing] * 3, pbc=True)


def grid_index(i: int, j: int, k: int, n: int = 10) -> int:
    return (i * n + j) * n + k


def environment(atoms: Atoms, index: int, radius: float) -> np.ndarray:
    """Sorted (element, vector) rows of the neighbours of one atom."""
    i, j, vectors = neighbor_list("ijD", atoms, radius)
    rows = np.column_stack([atoms.numbers[j[i == index]], np.round(vectors[i == index], 6) + 0.0])
    return rows[np.lexsort(rows.T)]


def relative(carved: Carved) -> np.ndarray:
    return carved.atoms.positions - carved.atoms.positions[carved.center]


@pytest.mark.parametrize("mode", ["box", "sphere"])
@pytest.mark.parametrize(
    ("cell", "edges", "pbc"),
    [
        ({}, (5, 5, 5), (True, False, False)),
        ({"cell": [101, 0, 0], "pbc": (True, False, False)}, (5, 5, 5), (True, False, False)),
        ({"cell": [101, 30, 30], "pbc": True}, (5, 5, 5), (True, True, True)),
        ({"cell": [101, 3, 4], "pbc": True}, (5, 3, 4), (True, True, True)),
    ],
)
def test_one_dimensional_chain(mode: str, cell: dict, edges: tuple, pbc: tuple) -> None:
    carved = extract_periodic_subsystem(chain(**cell), 50, 2.0, 0.5, mode)

    assert carved.parent_indices.tolist() == [48, 49, 50, 51, 52]
    assert carved.force_mask.tolist() == [0, 1, 1, 1, 0]
    assert carved.center == 2
    assert carved.atoms.cell.cellpar() == pytest.approx([*edges, 90, 90, 90])
    assert tuple(carved.atoms.pbc) == pbc
    assert carved.atoms.positions[2] == pytest.approx(np.array(edges) / 2)
    assert carved.atoms.positions[:, 0] == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])
    assert not carved.removed
    assert not carved.warnings


def test_chain_wraps_around_its_end() -> None:
    carved = extract_periodic_subsystem(chain(cell=[101, 30, 30], pbc=True), 0, 2.0, 0.5)

    assert carved.parent_indices.tolist() == [0, 1, 2, 99, 100]
    assert carved.force_mask.tolist() == [1, 1, 0, 0, 1]
    assert relative(carved)[:, 0] == pytest.approx([0, 1, 2, -2, -1])


def test_open_chain_does_not_wrap_around_its_end() -> None:
    carved = extract_periodic_subsystem(chain(), 0, 2.0, 0.5)

    assert carved.parent_indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("cutoff", "buffer_size", "in_box", "in_sphere", "learned"),
    [
        # Edge 16 = 4 spacings: the half-open cube holds -8, -4, 0, 4 and tiles; the sphere of 8 only -4, 0, 4.
        (5.0, 3.0, 64, 27, 7),
        # Edge 12 = 3 spacings. The six nearest neighbours lie exactly at the cutoff: masked.
        (4.0, 2.0, 27, 19, 1),
        (4.5, 1.5, 27, 19, 7),
    ],
)
def test_argon_grid(cutoff: float, buffer_size: float, in_box: int, in_sphere: int, learned: int) -> None:
    atoms = grid()
    for mode, expected in (("box", in_box), ("sphere", in_sphere)):
        carved = extract_periodic_subsystem(atoms, grid_index(5, 5, 5), cutoff, buffer_size, mode)
        assert len(carved.atoms) == expected
        assert carved.atoms.cell.cellpar() == pytest.approx([2 * (cutoff + buffer_size)] * 3 + [90] * 3)
        assert carved.atoms.pbc.all()
        assert carved.force_mask.sum() == learned
        assert np.array_equal(carved.force_mask == 1, np.linalg.norm(relative(carved), axis=1) < cutoff - 1e-6)
        assert carved.atoms.positions[carved.center] == pytest.approx([cutoff + buffer_size] * 3)
        assert carved.parent_indices[carved.center] == grid_index(5, 5, 5)
        assert not carved.removed


def test_a_cell_that_tiles_the_grid_is_the_grid() -> None:
    carved = extract_periodic_subsystem(grid(), grid_index(2, 3, 4), 5.0, 3.0)

    expected = environment(grid(), 555, 7.0)
    for index in range(0, len(carved.atoms), 7):
        assert np.array_equal(environment(carved.atoms, index, 7.0), expected)


@pytest.mark.parametrize(("axis", "end"), FACES)
@pytest.mark.parametrize("mode", ["box", "sphere"])
def test_wraps_around_every_face(axis: int, end: int, mode: str) -> None:
    atoms = grid()
    atoms.rattle(0.1, seed=3)
    place = [5, 5, 5]
    place[axis] = end
    carved = extract_periodic_subsystem(atoms, grid_index(*place), 4.5, 1.5, mode)

    assert len(carved.atoms) + len(carved.removed) == (27 if mode == "box" else 19)
    planes = {int(p) // 10 ** (2 - axis) % 10 for p in carved.parent_indices}
    assert planes == {(end - 1) % 10, end, (end + 1) % 10}
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(atoms, grid_index(*place), 6.0))


def test_atoms_outside_the_parents_cell_are_the_same_atoms() -> None:
    atoms = grid()
    atoms.rattle(0.1, seed=4)
    moved = atoms.copy()
    moved.positions += np.random.default_rng(0).integers(-3, 4, (len(atoms), 3)) * 40.0
    one, two = (extract_periodic_subsystem(a, 111, 4.5, 1.5) for a in (atoms, moved))

    assert np.array_equal(one.parent_indices, two.parent_indices)
    assert np.allclose(one.atoms.positions, two.atoms.positions, atol=1e-9)


def test_large_triclinic_parent_gives_the_cube() -> None:
    atoms = bulk("Al") * (12, 12, 12)
    atoms.rattle(0.05, seed=1)
    carved = extract_periodic_subsystem(atoms, 700, 4.0, 2.0)

    assert carved.atoms.cell.cellpar() == pytest.approx([12, 12, 12, 90, 90, 90])
    assert len(set(carved.parent_indices)) == len(carved.parent_indices)
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(atoms, 700, 6.0))


def test_triclinic_parent_in_whose_cube_an_atom_would_appear_twice() -> None:
    # Height 14.03 A > edge 13 A, but the lattice vector (0, 12.15, 12.15) fits into the cube.
    atoms = bulk("Al") * (6, 6, 6)
    atoms.rattle(0.05, seed=1)
    carved = extract_periodic_subsystem(atoms, 100, 4.5, 2.0)

    volume = abs(np.linalg.det(carved.atoms.cell))
    heights = volume / np.linalg.norm(np.cross(carved.atoms.cell[[1, 2, 0]], carved.atoms.cell[[2, 0, 1]]), axis=1)
    assert heights == pytest.approx([13.0] * 3)
    assert carved.atoms.cell.angles() == pytest.approx([60] * 3)
    assert len(set(carved.parent_indices)) == len(carved.parent_indices)
    assert np.array_equal(environment(carved.atoms, carved.center, 6.5), environment(atoms, 100, 6.5))


def test_small_triclinic_parent_keeps_its_periods() -> None:
    atoms = bulk("Al") * (3, 3, 3)
    atoms.rattle(0.1, seed=2)
    for mode in ("box", "sphere"):
        carved = extract_periodic_subsystem(atoms, 5, 4.0, 2.0, mode)
        assert np.allclose(carved.atoms.cell, atoms.cell)
        assert carved.parent_indices.tolist() == list(range(27))
        assert not carved.removed
        assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(atoms, 5, 6.0))
    nearest = atoms.get_distances(5, range(27), mic=True)
    assert np.array_equal(carved.force_mask == 1, nearest < 4.0)


def test_triclinic_parent_that_is_thin_in_one_direction() -> None:
    atoms = bulk("Al") * (9, 9, 2)
    atoms.rattle(0.05, seed=5)
    carved = extract_periodic_subsystem(atoms, 77, 4.0, 2.0)

    assert np.allclose(carved.atoms.cell[2], atoms.cell[2])
    for row in (0, 1):
        assert np.allclose(np.cross(carved.atoms.cell[row], atoms.cell[row]), 0, atol=1e-9)
    heights = 1 / np.linalg.norm(np.linalg.inv(carved.atoms.cell), axis=0)
    assert heights[:2] == pytest.approx([12.0, 12.0])
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(atoms, 77, 6.0))


def test_sphere_in_a_thin_parent_counts_the_nearest_image() -> None:
    atoms = grid(n=10)[: 10 * 10 * 10]
    thin = atoms[[i for i in range(1000) if i % 10 == 0]]
    thin.cell = [40, 40, 4]
    carved = extract_periodic_subsystem(thin, 55, 5.0, 3.0, "sphere")

    # In the plane: n^2 < 4; the third direction is one spacing thick.
    assert len(carved.atoms) == 9
    assert carved.force_mask.sum() == 5
    assert carved.atoms.cell.cellpar() == pytest.approx([16, 16, 4, 90, 90, 90])


def test_two_dimensional_parent_stays_two_dimensional() -> None:
    positions = [(3.8 * i, 3.8 * j, 0.0) for i in range(8) for j in range(8)]
    for height in (0.0, 10.0, 40.0):
        atoms = Atoms("Ar64", positions=positions, cell=[30.4, 30.4, height], pbc=(True, True, False))
        carved = extract_periodic_subsystem(atoms, 0, 5.7, 1.9)
        assert tuple(carved.atoms.pbc) == (True, True, False)
        assert carved.atoms.cell.cellpar() == pytest.approx([15.2, 15.2, 15.2, 90, 90, 90])
        assert len(carved.atoms) == 16
        assert carved.atoms.positions[:, 2] == pytest.approx(7.6)
    small = extract_periodic_subsystem(atoms, 0, 14.0, 2.0)
    assert tuple(small.atoms.pbc) == (True, True, False)
    assert small.atoms.cell.cellpar() == pytest.approx([30.4, 30.4, 32, 90, 90, 90])
    assert len(small.atoms) == 64


def test_slab_thicker_than_the_cell_becomes_periodic() -> None:
    slab = fcc111("Al", (8, 8, 10), vacuum=8.0, orthogonal=True)
    slab.pbc = (True, True, False)
    z = slab.positions[:, 2]
    middle = int(np.argmin(np.abs(z - z.mean())))
    carved = extract_periodic_subsystem(slab, middle, 3.5, 2.5, collision_distance=0.0)

    assert carved.atoms.pbc.all()
    assert carved.atoms.cell.cellpar() == pytest.approx([12, 12, 12, 90, 90, 90])
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(slab, middle, 6.0))


def test_thin_slab_keeps_its_vacuum_and_its_surfaces() -> None:
    slab = fcc111("Al", (8, 8, 3), vacuum=8.0, orthogonal=True)
    slab.pbc = (True, True, False)
    carved = extract_periodic_subsystem(slab, 100, 3.5, 2.5, collision_distance=0.0)

    assert tuple(carved.atoms.pbc) == (True, True, False)
    assert len(np.unique(np.round(carved.atoms.positions[:, 2], 3))) == 3
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(slab, 100, 6.0))


def test_rotated_slab_is_cut_along_its_own_plane() -> None:
    slab = fcc111("Al", (8, 8, 3), vacuum=8.0)
    slab.pbc = (True, True, False)
    slab.rotate(35, (1, 2, 3), rotate_cell=True)
    carved = extract_periodic_subsystem(slab, 100, 3.5, 2.5, collision_distance=0.0)

    assert tuple(carved.atoms.pbc) == (True, True, False)
    normal = np.cross(slab.cell[0], slab.cell[1])
    assert np.allclose(np.cross(carved.atoms.cell[2], normal), 0, atol=1e-6)
    assert np.array_equal(environment(carved.atoms, carved.center, 6.0), environment(slab, 100, 6.0))


def test_wire_and_molecule() -> None:
    wire = Atoms("Cu40", positions=[(0.3 * (i % 2), 0.0, 2.3 * i) for i in range(40)], cell=[0, 0, 92])
    wire.pbc = (False, False, True)
    carved = extract_periodic_subsystem(wire, 0, 4.0, 2.0)
    assert tuple(carved.atoms.pbc) == (False, False, True)
    assert carved.parent_indices.tolist() == [0, 1, 2, 38, 39]

    molecule = Atoms("OH2", positions=[(0, 0, 0), (0.76, 0.59, 0), (-0.76, 0.59, 0)])
    carved = extract_periodic_subsystem(molecule, 0, 0.9, 2.0)
    assert not carved.atoms.pbc.any()
    assert carved.atoms.get_chemical_symbols() == ["O", "H", "H"]
    assert carved.force_mask.tolist() == [1, 0, 0]


def test_collisions_remove_the_outer_atom_and_say_so() -> None:
    # Edge 10 = 2.5 spacings: the layers at -4 and +4 are 2 A apart across the boundary.
    carved = extract_periodic_subsystem(grid(), grid_index(5, 5, 5), 3.0, 2.0)

    # Of 27 stay the eight of one corner, and the opposite corner, whose contacts all went: 3.46 A is no collision.
    assert len(carved.atoms) == 9
    assert len(carved.removed) == 18
    assert set(carved.parent_indices) | {r.parent_index for r in carved.removed} == {
        grid_index(i, j, k) for i, j, k in product((4, 5, 6), repeat=3)
    }
    assert all(r.distance < 3.2 for r in carved.removed)
    assert carved.parent_indices[carved.center] == grid_index(5, 5, 5)


def test_centre_and_core_are_never_removed_for_the_buffer() -> None:
    atoms = bulk("Al", cubic=True) * (8, 8, 8)
    atoms.rattle(0.15, seed=9)
    carved = extract_periodic_subsystem(atoms, 999, 4.0, 1.1, collision_distance=3.5)

    assert carved.removed
    removed = {r.parent_index for r in carved.removed}
    distances = atoms.get_distances(999, range(len(atoms)), mic=True)
    for removal in carved.removed:
        assert removal.collided_with not in removed
        assert distances[removal.parent_index] >= distances[removal.collided_with]
    assert carved.parent_indices[carved.center] == 999


def test_a_violently_close_pair_of_the_parent_is_kept() -> None:
    atoms = bulk("Al", cubic=True) * (5, 5, 5)
    atoms.rattle(0.1, seed=6)
    neighbour = int(np.argsort(atoms.get_distances(200, range(500), mic=True))[1])
    vector = atoms.get_distance(200, neighbour, mic=True, vector=True)
    atoms.positions[neighbour] -= vector * (1 - 0.9 / np.linalg.norm(vector))
    for mode in ("box", "sphere"):
        carved = extract_periodic_subsystem(atoms, 200, 3.5, 2.0, mode)
        assert {200, neighbour} <= set(carved.parent_indices)
        assert environment(carved.atoms, carved.center, 1.0).shape == (1, 4)


def test_collisions_can_be_left_in() -> None:
    carved = extract_periodic_subsystem(grid(), 555, 3.0, 2.0, collision_distance=0.0)

    assert len(carved.atoms) == 27
    assert not carved.removed


def test_warnings() -> None:
    assert not extract_periodic_subsystem(grid(), 555, 4.5, 1.5, potential_cutoff=6.0).warnings
    (small,) = extract_periodic_subsystem(grid(), 555, 4.5, 1.5, potential_cutoff=6.5).warnings
    assert "6 A" in small
    assert "6.5 A" in small
    assert "buffer_size" in small
    (images,) = extract_periodic_subsystem(grid(), 555, 1.0, 0.5).warnings
    assert "3 A from their own images" in images
    (core,) = extract_periodic_subsystem(grid(), 555, 4.5, 0.5).warnings
    assert "of the core collide" in core


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"center_index": 1000}, ("center_index", "1000", "0 to 999")),
        ({"center_index": -1}, ("center_index", "-1")),
        ({"cutoff": -1.0}, ("cutoff", "-1.0")),
        ({"cutoff": 0.0}, ("cutoff", "0.0")),
        ({"cutoff": float("nan")}, ("cutoff", "nan")),
        ({"buffer_size": -0.1}, ("buffer_size", "-0.1")),
        ({"mode": "ball"}, ("mode", "ball", "dodecahedron, box, sphere")),
        ({"collision_distance": -1.0}, ("collision_distance", "-1.0")),
    ],
)
def test_bad_arguments(arguments: dict, words: tuple[str, ...]) -> None:
    good = {"center_index": 5, "cutoff": 4.0, "buffer_size": 2.0}
    with pytest.raises(DataError) as caught:
        extract_periodic_subsystem(grid(), **{**good, **arguments})
    assert all(word in str(caught.value) for word in words)
    assert caught.value.hint


def test_bad_parents() -> None:
    lost = grid()
    lost.positions[3, 1] = np.inf
    with pytest.raises(DataError, match="atom 3"):
        extract_periodic_subsystem(lost, 5, 4.0, 2.0)
    flat = grid()
    flat.cell = [40, 40, 0]
    with pytest.raises(DataError, match="cell"):
        extract_periodic_subsystem(flat, 5, 4.0, 2.0)
    parallel = grid()
    parallel.cell = [[40, 0, 0], [80, 0, 0], [0, 0, 40]]
    with pytest.raises(DataError, match="cell"):
        extract_periodic_subsystem(parallel, 5, 4.0, 2.0)


def test_the_dodecahedron_tiles_and_holds_the_sphere() -> None:
    # Edge 16 of a grid of 4: the fcc cell of the same faces has 4 * sqrt(2) * 8^3 A^3, 45.25 points on average;
    # around a point of the grid 1 + 6 + 12 + 8 + 6.
    sizes = set()
    for center in (555, 111, 999):
        carved = extract_periodic_subsystem(grid(), center, 5.0, 3.0, "dodecahedron", collision_distance=0.0)
        sizes.add(len(carved.atoms))
        assert carved.atoms.get_volume() == pytest.approx(4 * 2**0.5 * 8**3)
        assert carved.atoms.cell.angles() == pytest.approx([60] * 3)
        assert carved.force_mask.sum() == 7
        assert np.array_equal(environment(carved.atoms, carved.center, 7.9), environment(grid(), center, 7.9))
    assert sizes == {33}


def test_the_dodecahedron_takes_0_71_of_the_box_in_a_melt() -> None:
    rng = np.random.default_rng(8)
    melt = Atoms("Al1500", positions=rng.uniform(0, 30, (1500, 3)), cell=[30] * 3, pbc=True)
    counts = np.array(
        [
            [len(extract_periodic_subsystem(melt, c, 3.0, 3.0, m, collision_distance=0.0).atoms) for c in range(40)]
            for m in ("dodecahedron", "box")
        ]
    ).mean(axis=1)
    assert counts[0] / counts[1] == pytest.approx(2**-0.5, rel=0.03)


def test_where_no_dodecahedron_fits_it_is_a_box() -> None:
    slab = grid()
    slab.pbc = (True, True, False)
    for atoms, radius in ((slab, 3.0), (grid(n=4), 7.0)):
        one, two = (extract_periodic_subsystem(atoms, 21, 3.0, radius, mode) for mode in ("dodecahedron", "box"))
        assert np.allclose(one.atoms.cell, two.atoms.cell)
        assert one.parent_indices.tolist() == two.parent_indices.tolist()


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_the_cell_mode_is_the_parent_with_every_atom_learned(pbc: tuple) -> None:
    atoms = bulk("Cu", cubic=True) * (2, 3, 2)
    atoms.rattle(0.1, seed=3)
    atoms.pbc = pbc
    carved = extract_periodic_subsystem(atoms, 7, 2.6, 1.0, "cell")
    assert carved.parent_indices.tolist() == list(range(48))
    assert carved.force_mask.all()
    assert 1 < carved.core.sum() < 48
    assert tuple(carved.atoms.pbc) == pbc
    for direction in np.flatnonzero(pbc):
        assert np.allclose(carved.atoms.cell[direction], atoms.cell[direction])
    assert np.array_equal(environment(carved.atoms, 11, 5.0), environment(atoms, 11, 5.0))
