"""GPAW: what it is asked, what it cannot do, and that nothing but a converged free energy becomes a label."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100
from pydantic import ValidationError

from mlip_autopipec.core.errors import AutopipeError, ConfigError, Crashed, DataError, NotConverged, TimedOut
from mlip_autopipec.core.periodic import periodic_job
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.engines.gpaw.failures import error_of
from mlip_autopipec.engines.gpaw.labeller import GpawLabeller, gpaw_input
from mlip_autopipec.engines.gpaw.settings import GpawNode, GpawSettings

DEBIAN = Path("/usr/share/espresso/pseudo")
CHEAP: dict[str, Any] = {"ecut_ev": 120, "kspacing": 5, "isolated_box": 6.0, "density_tolerance": 1e-4}

pytestmark = pytest.mark.usefixtures("gpaw")


def labeller(node: GpawNode | None = None, **settings: Any) -> GpawLabeller:
    return GpawLabeller(GpawSettings(**{**CHEAP, **settings}), node)


def asked(atoms: Atoms, **settings: Any) -> tuple[Atoms, dict[str, Any]]:
    """Return what GPAW would be given."""
    wanted = GpawSettings(**settings)
    job = periodic_job(atoms, vacuum=wanted.vacuum, kspacing=wanted.kspacing)
    return gpaw_input(job, wanted.moments(job.atoms), wanted)


# --- what is asked -------------------------------------------------------------------------------------------------


def test_a_metal_has_k_points_smearing_and_no_spin() -> None:
    atoms, parameters = asked(bulk("Al", cubic=True, a=4.05))
    assert parameters["kpts"] == {"size": (11, 11, 11), "gamma": True}  # 2 pi / 4.05 A / 0.15 = 10.3
    assert parameters["occupations"] == {"name": "marzari-vanderbilt", "width": 0.27}
    assert parameters["xc"] == "PBE"
    assert parameters["spinpol"] is False
    assert "mixer" not in parameters
    assert atoms.pbc.all()


def test_magnetic_metals_start_with_the_moments_of_atoms() -> None:
    atoms, parameters = asked(bulk("Fe", cubic=True))
    assert parameters["spinpol"] is True
    assert atoms.get_initial_magnetic_moments().tolist() == [4.0, 4.0]
    atoms, _ = asked(bulk("Fe", cubic=True), magnetic_order="antiferro", magnetic_moments={"Fe": 2.0})
    assert sorted(atoms.get_initial_magnetic_moments()) == [-2.0, 2.0]
    atoms, parameters = asked(bulk("Fe"), nspin=1)
    assert parameters["spinpol"] is False


def test_what_the_settings_say_is_passed_on() -> None:
    _, parameters = asked(
        bulk("Ag"), setups={"Ag": "11"}, mixing_beta=0.02, total_charge=0.5, electron_maxstep=77, functional="RPBE"
    )
    assert parameters["setups"] == {"Ag": "11"}
    assert parameters["mixer"] == {"beta": 0.02}
    assert (parameters["charge"], parameters["maxiter"], parameters["xc"]) == (0.5, 77, "RPBE")


def test_a_slab_stands_in_the_middle_for_the_dipole_correction() -> None:
    slab = fcc100("Al", (1, 1, 3))
    slab.positions[:, 2] += 1.0
    slab.pbc = (True, True, False)
    atoms, parameters = asked(slab)
    assert parameters["poissonsolver"] == {"dipolelayer": "xy"}
    assert atoms.pbc.tolist() == [True, True, False]
    assert parameters["kpts"]["size"][2] == 1
    heights = atoms.get_scaled_positions()[:, 2]
    assert heights.mean() == pytest.approx(0.5)
    assert np.allclose(np.ptp(atoms.positions[:, 2]), np.ptp(slab.positions[:, 2]))
    _, parameters = asked(slab, dipole=False)
    assert "poissonsolver" not in parameters
    slab.cell[2] += [0.5, 0, 8]
    with pytest.raises(DataError, match="not normal to the others"):
        asked(slab)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"functional": "B3LYP"}, "functional"),
        ({"setups": {"Xx": "11"}}, "no element symbol"),
        ({"nspin": 1, "magnetic_moments": {"Fe": 2}}, "no meaning without spin"),
        ({"ecut_ev": 20}, "ecut_ev"),
        ({"ecut": 300}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GpawSettings(**settings)


# --- what is missing -----------------------------------------------------------------------------------------------


def test_without_gpaw_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(ConfigError, match=r"labeller\.engine: 'gpaw': GPAW cannot be loaded") as caught:
        labeller()
    assert "pip install" in caught.value.hint


def test_datasets_are_checked_by_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpaw

    monkeypatch.setattr(gpaw, "setup_paths", list(gpaw.setup_paths))  # a labeller adds to it, for its whole process
    labeller(setups={"Ag": "11", "Ni": ":d,6.0"}).check_elements(["Ag", "Ni"])
    with pytest.raises(ConfigError, match=r"no PAW dataset for Ag, Og \(Ag\.99\.PBE, Og\.PBE\)"):
        labeller(setups={"Ag": "99"}).check_elements(["Ag", "Al", "Og"])
    with pytest.raises(ConfigError, match=r"node\.gpaw\.setup_dir: .*no such folder"):
        labeller(GpawNode(setup_dir=tmp_path / "none"))
    (tmp_path / "Og.PBE.gz").write_bytes(b"")
    labeller(GpawNode(setup_dir=tmp_path)).check_elements(["Og"])


@pytest.mark.usefixtures("pw_x")
@pytest.mark.parametrize("element", ["Al", "Mg", "Li", "Co", "Na", "W", "F", "Cl"])
def test_where_debian_has_no_pbe_the_error_names_gpaw_which_has(element: str) -> None:
    with pytest.raises(ConfigError, match=rf"PBE: none for {element}") as caught:
        choose(EspressoSettings(elements=[element], functional="PBE"), DEBIAN)
    assert "engine gpaw" in caught.value.hint
    assert "library" in caught.value.hint
    labeller().check_elements([element])


# --- failures ------------------------------------------------------------------------------------------------------


def test_an_scf_without_end_is_not_a_label(tmp_path: Path) -> None:
    with pytest.raises(NotConverged, match="did not converge in 3 iterations") as caught:
        labeller(electron_maxstep=3).label(bulk("Al"), tmp_path)
    assert "labeller.mixing_beta" in caught.value.hint
    assert "SCF iterations" in (tmp_path / "gpaw.txt").read_text()


def test_it_stops_at_its_time_limit(tmp_path: Path) -> None:
    with pytest.raises(TimedOut, match=r"after \d+ s and 1 SCF iterations"):
        labeller(GpawNode(max_seconds=1e-3)).label(bulk("Al"), tmp_path)


def test_overlapping_atoms_are_refused(tmp_path: Path) -> None:
    atoms = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 0.3]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(DataError, match=r"atoms 0 and 1 are 0\.300 A apart"):
        labeller().label(atoms, tmp_path)


@pytest.mark.parametrize(
    ("error", "family", "transient"),
    [
        (MemoryError("Unable to allocate 9 GiB"), Crashed, False),
        (OSError(28, "No space left on device"), Crashed, True),
        (OSError(5, "Input/output error"), Crashed, False),
        (FileNotFoundError('Could not find required PAW dataset file "Al.PBE"'), ConfigError, False),
        (AssertionError(), Crashed, False),
        (np.linalg.LinAlgError("not positive definite"), Crashed, False),
    ],
)
def test_every_exception_is_an_error_of_the_house(
    error: Exception, family: type[AutopipeError], transient: bool
) -> None:
    import gpaw

    found = error_of(error, gpaw, 4)
    assert type(found) is family
    assert found.hint
    assert found.transient is transient
    assert str(error)[:20] in found.message


# --- labels --------------------------------------------------------------------------------------------------------


def test_the_energy_is_the_free_energy(tmp_path: Path) -> None:
    label = labeller(smearing="fermi-dirac", width_ev=0.5, kspacing=1.5).label(bulk("Al"), tmp_path)
    # Half of the entropy term lies between F and the value extrapolated to zero width.
    assert label.info["energy_sigma0_ev"] - label.energy > 0.01
    assert label.info["setups"]["Al"].startswith("Al.PBE ")
    assert label.info["scf_iterations"] > 3
    assert json.loads(json.dumps(label.info, allow_nan=False)) == label.info
    assert (tmp_path / "gpaw.txt").stat().st_size > 1000


def test_spin_lowers_the_energy_of_a_hydrogen_atom(tmp_path: Path) -> None:
    common = {"ecut_ev": 200, "width_ev": 0.05}
    plain = labeller(**common).isolated_atom_energy("H", tmp_path)
    spin = labeller(**common, nspin=2).isolated_atom_energy("H", tmp_path)
    assert plain - 1.3 < spin < plain - 0.6
