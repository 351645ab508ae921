"""SOAP: equal to dscribe, and right where dscribe cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.integrate import quad
from scipy.special import spherical_in

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.gto import THRESHOLD, orbitals
from mlip_autopipec.sampling.soap.settings import SoapSettings
from soap_parts import STRUCTURES, distance, dscribe_soap, rattled, settings_for, slab, water

TOLERANCE = 1e-6


@pytest.mark.usefixtures("dscribe")
@pytest.mark.parametrize("name", STRUCTURES)
def test_equal_to_dscribe(name):
    atoms = STRUCTURES[name]()
    settings = settings_for(atoms)
    soap = Soap(settings, threads=1)
    assert soap.n_features == dscribe_soap(settings, atoms).shape[1]
    assert distance(soap.environments(atoms), dscribe_soap(settings, atoms)) < TOLERANCE
    for average in ("inner", "outer"):
        assert distance(soap.structure(atoms, average=average), dscribe_soap(settings, atoms, average)) < TOLERANCE


@pytest.mark.parametrize(("angular", "r"), [(0, 0.0), (0, 1.3), (1, 2.1), (3, 2.6), (6, 4.4)])
def test_radial_functions_equal_the_integral(angular, r):
    """G r^l = 4 pi int r'^2 g(r') exp(-eta (r'^2 + r^2)) i_l(2 eta r r') dr', by quadrature."""
    settings = SoapSettings(("Si",), r_cut=4.5, n_max=3, l_max=6, sigma=0.7)
    eta = 0.5 / settings.sigma**2
    ends = np.linspace(1.0, settings.r_cut, settings.n_max)
    alpha = -np.log(THRESHOLD / ends**angular) / ends**2
    found, _ = orbitals(settings).values(np.array([r]))

    def integral(function, *arguments):
        return quad(function, 0.0, 15.0, args=arguments, epsabs=0.0, epsrel=1e-11, limit=200)[0]

    def primitive(x, k):
        return x**angular * np.exp(-alpha[k] * x**2)

    def product(x, j, k):
        return x**2 * primitive(x, j) * primitive(x, k)

    def smeared(x, k):
        bessel = spherical_in(angular, 2 * eta * r * x) * np.exp(-eta * (x**2 + r**2))
        return x**2 * primitive(x, k) * bessel

    overlap = np.array([[integral(product, j, k) for k in range(3)] for j in range(3)])
    sizes, directions = np.linalg.eigh(overlap)
    beta = directions @ np.diag(sizes**-0.5) @ directions.T
    raw = [integral(smeared, k) for k in range(3)]
    wanted = 4 * np.pi * beta @ raw
    assert found[0, angular] * r**angular == pytest.approx(wanted, rel=1e-8, abs=1e-9 * np.abs(wanted).max())


def test_tables_are_finer_than_the_tolerance():
    """Against the closed form itself, at any distance: for l = 0 the centre and its neighbour give G_n G_n' / 4 pi."""
    settings = SoapSettings(("H", "He"), n_max=4, l_max=2)
    soap = Soap(settings, threads=1)
    for r in np.random.default_rng(0).uniform(0.3, settings.reach - 0.01, 20):
        row = soap.environments(Atoms("HHe", positions=[[0, 0, 0], [0, 0, r]]), indices=[0])[0]
        values, _ = orbitals(settings).values(np.array([0.0, r]))
        centre, other = values[:, 0]
        # Pairs H H (10 per l), H He (16), He He (10).
        cross = np.pi * np.sqrt(8.0) * np.outer(centre, other).ravel() / (4 * np.pi)
        assert row[30:46] == pytest.approx(cross, rel=1e-6, abs=1e-9 * np.abs(cross).max())


def test_rows_do_not_depend_on_rotation_images_or_order():
    atoms = rattled(bulk("NaCl", "rocksalt", a=5.64).repeat((2, 1, 1)))
    soap = Soap(settings_for(atoms, n_max=5, l_max=4), threads=1)
    rows = soap.environments(atoms)
    turned = atoms.copy()
    turned.rotate(37.0, (1.0, 2.0, 0.5), rotate_cell=True)
    turned.translate((11.3, -7.0, 25.0))
    assert soap.environments(turned) == pytest.approx(rows, rel=1e-8, abs=1e-8 * np.abs(rows).max())
    order = [2, 0, 3, 1]
    assert soap.environments(atoms[order]) == pytest.approx(rows[order], rel=1e-10, abs=1e-12 * np.abs(rows).max())
    larger = soap.environments(atoms.repeat((1, 3, 2)))
    assert larger[: len(atoms)] == pytest.approx(rows, rel=1e-8, abs=1e-10 * np.abs(rows).max())


@pytest.mark.parametrize("make", [lambda: rattled(bulk("Cu", cubic=True).repeat(4)), water, slab])
def test_threads_and_choice_of_atoms_change_nothing(make):
    atoms = make()
    one, three = (Soap(settings_for(atoms, n_max=4, l_max=3), threads=n) for n in (1, 3))
    rows = one.environments(atoms)
    assert np.array_equal(three.environments(atoms), rows)
    assert np.array_equal(one.environments(atoms, indices=[5, -1]), rows[[5, -1]])
    for average in ("inner", "outer"):
        assert np.array_equal(three.structure(atoms, average=average), one.structure(atoms, average=average))
    assert one.structure(atoms) == pytest.approx(rows.mean(axis=0), rel=1e-12)


def test_far_atoms_do_not_see_one_another():
    lone = Soap(SoapSettings(("Ar",)), threads=1).environments(Atoms("Ar"))
    pair = Atoms("Ar2", positions=[[0, 0, 0], [0, 3e4, 5e7]])
    assert Soap(SoapSettings(("Ar",)), threads=1).environments(pair) == pytest.approx(np.repeat(lone, 2, axis=0))


def test_elements_that_are_absent_leave_zeros():
    atoms = rattled(bulk("Cu", cubic=True))
    wide = Soap(SoapSettings(("Cu", "Al"), n_max=3, l_max=2), threads=1).environments(atoms)
    alone = Soap(SoapSettings(("Cu",), n_max=3, l_max=2), threads=1).environments(atoms)
    # Channels of Al come first, then Al Cu.
    assert not wide[:, : 18 + 27].any()
    assert np.array_equal(wide[:, 18 + 27 :], alone)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"species": ()}, "soap.species"),
        ({"species": ("Al", "Al")}, "soap.species"),
        ({"species": ("Al", "Qq")}, "Qq"),
        ({"r_cut": 1.0}, "soap.r_cut: 1.0"),
        ({"r_cut": float("nan")}, "soap.r_cut: nan"),
        ({"sigma": 0.0}, "soap.sigma: 0.0"),
        ({"n_max": 0}, "soap.n_max: 0"),
        ({"l_max": -1}, "soap.l_max: -1"),
        ({"n_max": 40}, "soap.n_max: 40"),
    ],
)
def test_settings_out_of_range_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        Soap(SoapSettings(**({"species": ("Al",)} | changes)), threads=1)


def test_structures_that_cannot_be_described_are_refused():
    soap = Soap(SoapSettings(("Al",), n_max=2, l_max=1), threads=1)
    with pytest.raises(DataError, match="contains Cu"):
        soap.environments(Atoms("AlCu", positions=[[0, 0, 0], [0, 0, 2]]))
    with pytest.raises(DataError, match="not finite"):
        soap.environments(Atoms("Al", positions=[[0, 0, np.nan]]))
    with pytest.raises(DataError, match="no atoms"):
        soap.structure(Atoms())
    assert soap.environments(Atoms()).shape == (0, soap.n_features)
