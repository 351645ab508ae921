"""MACE of many structures in one pass: the numbers of its ASE calculator, in MD and beyond, on a CPU and on a GPU."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from mace_parts import device_of, write_tiny_mace
from mlip_autopipec.core.errors import AutopipeError, Crashed, DataError
from mlip_autopipec.daemons.surrogates import how_many_at_once
from mlip_autopipec.daemons.trajectorychild import Request, TrajectoryBench, TrajectorySettings
from mlip_autopipec.engines.dynamics.batch import LangevinBatch
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Ended, Track
from mlip_autopipec.engines.mace.batch import MaceBatch
from mlip_autopipec.engines.mace.calculator import load_mace
from mlip_autopipec.engines.mace.edges import Edges
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.stages.exploration import exploration_tasks
from mlip_autopipec.store.exploration import check_exploration

# torch itself uses parts of itself that it calls deprecated.
pytestmark = [pytest.mark.usefixtures("mace"), pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mace")
    write_tiny_mace(folder / "tiny.model", (13, 29))
    return folder


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    return device_of(request.param)


@pytest.fixture
def calculator(root: Path, device: str) -> Any:
    return load_mace("tiny.model", root, device=device, dtype="float64")


def structures() -> list[Atoms]:
    """Different sizes, elements and periodicities; a cell that is smaller than the cutoff, and one that is sheared."""
    slab = fcc111("Al", (2, 2, 3), vacuum=6.0)
    slab.pbc = (True, True, False)
    mixed = bulk("Cu", a=3.7, cubic=True) * (2, 1, 1)
    mixed.symbols[[1, 6]] = "Al"
    sheared = bulk("Cu", a=3.65)
    sheared.set_cell(sheared.cell.array @ [[1, 0.1, 0], [0, 1, 0.05], [0, 0, 1]], scale_atoms=True)
    cluster = Atoms("Cu3Al", [[0, 0, 0], [2.3, 0, 0], [0, 2.4, 0], [0, 0, 2.5]])
    return [slab, mixed, sheared, cluster, bulk("Al", a=4.0, cubic=True)]


def moved(found: list[Atoms], by: float, strain: float, seed: int) -> Iterator[Atoms]:
    rng = np.random.default_rng(seed)
    for atoms in found:
        copy = atoms.copy()
        if strain and atoms.pbc.all():
            copy.set_cell(atoms.cell * (1.0 + strain), scale_atoms=True)
        copy.positions += rng.uniform(-by, by, size=(len(atoms), 3))
        yield copy


def given(found: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([atoms.positions for atoms in found]), np.array([atoms.cell.array for atoms in found])


@pytest.mark.parametrize("most_atoms", [None, 13])
def test_numbers_are_those_of_the_calculator_of_ase(calculator: Any, most_atoms: int | None) -> None:
    """With a new list of pairs and with one of before, whether the atoms or the cells have changed; in parts, too."""
    forces = MaceBatch(calculator)
    forces._most_atoms = most_atoms
    forces.begin(structures())
    for by, strain in ((0.05, 0.0), (0.1, 0.0), (0.15, 0.02), (0.15, -0.03), (1.2, 0.0), (0.1, -0.2)):
        found = list(moved(structures(), by, strain, seed=round(100 * by)))
        energies, all_forces, stresses = forces.compute(*given(found), stress=True)
        first = 0
        for k, atoms in enumerate(found):
            atoms.calc = calculator
            own = all_forces[first : (first := first + len(atoms))]
            assert energies[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
            assert np.allclose(own, atoms.get_forces(), rtol=1e-8, atol=1e-8)
            if atoms.pbc.all():
                assert np.allclose(stresses[k], atoms.get_stress(voigt=False), rtol=1e-8, atol=1e-8)
        no_stress = forces.compute(*given(found), stress=False)
        assert np.allclose(no_stress[1], all_forces, rtol=1e-8, atol=1e-8)
        assert not no_stress[2].any()


def test_a_list_with_a_skin_is_made_anew_only_when_it_must_be() -> None:
    found = structures()
    edges = Edges(found, 4.0)
    positions, cells = given(found)
    assert edges.update(positions, cells)
    assert not edges.update(positions + 0.2, cells)
    assert not edges.update(positions, cells)
    farther = positions.copy()
    farther[0] += 0.6
    assert edges.update(farther, cells)
    assert not edges.update(farther, cells)
    for factor, anew in ((0.98, False), (0.75, True), (1.3, False)):
        edges = Edges(found, 4.0)
        edges.update(positions, cells)
        bulk_only = np.array([atoms.pbc.all() for atoms in found])
        factors = np.where(bulk_only, factor, 1.0)
        owners = np.repeat(np.arange(len(found)), [len(atoms) for atoms in found])
        scaled = positions * factors[owners, None], cells * factors[:, None, None]
        assert edges.update(*scaled) is anew, factor


def test_what_has_exploded_is_nan_and_harms_nobody(calculator: Any) -> None:
    forces, found = MaceBatch(calculator), structures()
    forces.begin(found)
    positions, cells = given(found)
    sound = forces.compute(positions, cells, stress=True)
    broken = positions.copy()
    broken[0] = np.nan  # of the slab
    broken[12:20] *= 1e30  # the mixed crystal
    collapsed = cells.copy()
    collapsed[4] *= 0.1
    for _ in range(2):
        energies, after, stresses = forces.compute(broken, collapsed, stress=True)
        assert np.isnan(energies).tolist() == [True, True, False, False, True]
        assert np.isnan(after[:20]).all()
        assert np.allclose(after[20:25], sound[1][20:25], rtol=0, atol=1e-10)
        assert np.allclose(stresses[2], sound[2][2], rtol=0, atol=1e-10)
    assert np.allclose(forces.compute(positions, cells, stress=True)[1], sound[1], rtol=0, atol=1e-10)


def test_what_does_not_fit_into_memory_goes_in_parts(calculator: Any) -> None:
    import torch

    forces, found = MaceBatch(calculator), structures()
    forces.begin(found)
    whole = forces.compute(*given(found), stress=False)
    passes: list[int] = []

    def limited(model: Any, inputs: tuple[dict[str, Any], ...]) -> None:
        passes.append(len(inputs[0]["positions"]))
        if passes[-1] > 12:
            raise torch.cuda.OutOfMemoryError("out of memory")

    hook = calculator.models[0].register_forward_pre_hook(limited)
    parts = forces.compute(*given(found), stress=False)
    assert np.allclose(parts[1], whole[1], rtol=0, atol=1e-10)
    assert passes == [29, 12, 13, 12, 8, 5, 4]
    large = [bulk("Cu", cubic=True) * (2, 2, 1)]
    forces.begin(large)
    with pytest.raises(Crashed, match="16 atoms do not fit"):
        forces.compute(*given(large), stress=False)
    hook.remove()


def test_unknown_elements_are_refused(calculator: Any) -> None:
    MaceBatch(calculator).check_elements(["Al", "Cu"])
    with pytest.raises(DataError, match="does not know Fe"):
        MaceBatch(calculator).check_elements(["Al", "Fe"])


def test_how_many_go_at_once(device: str) -> None:
    mace = {"kind": "mace", "model": "tiny.model"}
    assert how_many_at_once(mace, device, 7) == 7
    assert how_many_at_once(mace, device, "auto") == (32 if device == "cuda" else 1)
    assert how_many_at_once({"kind": "emt"}, device, "auto") == 1


def test_each_moves_as_ase_moves_it_alone(calculator: Any, tmp_path: Path) -> None:
    """At constant volume and pressure, with mates of other sizes and temperatures; one of them blows up."""
    copper, hot = bulk("Cu", a=3.61, cubic=True), {"temperature": 40_000.0, "timestep_fs": 12.0}
    wanted = {
        "nvt": (copper, {"temperature": 80.0}),
        "npt": (copper * (2, 1, 1), {"temperature": 300.0, "pressure_bar": 20_000.0}),
        "hot": (bulk("Al", a=4.05, cubic=True), hot),
        "slab": (structures()[0], {"temperature": 50.0}),
    }
    found: dict[str, list[Any]] = {}
    for kind in ("alone", "batch"):
        tracks = []
        for seed, (name, (atoms, changes)) in enumerate(wanted.items()):
            (tmp_path / kind / name).mkdir(parents=True)
            values = {"pressure_bar": None, "steps": 20, "stride": 5, "timestep_fs": 1.0, "seed": seed, **changes}
            tracks.append(Track(atoms, Conditions(**values), tmp_path / kind / name, checkpoint_s=0.0))
        if kind == "alone":
            found[kind] = [LangevinRun(track, calculator).run() for track in tracks]
        else:
            found[kind] = LangevinBatch(tracks, MaceBatch(calculator)).run()
    assert [end.complaint == "" for end in found["batch"]] == [True, True, False, True]
    for k, name in enumerate(("nvt", "npt", "hot", "slab")):
        if name == "hot":
            assert found["batch"][k].step < 20
            continue
        assert found["batch"][k] == found["alone"][k] == Ended(20, 4, "")
        one, other = (Checkpoint.read(tmp_path / kind / name) for kind in found)
        assert one is not None
        assert other is not None
        assert np.allclose(one.positions, other.positions, rtol=0, atol=1e-7)
        assert np.allclose(one.cell, other.cell, rtol=0, atol=1e-7)
    frames = ase.io.read(tmp_path / "batch" / "npt" / FRAMES, ":")
    assert np.ptp([frame.get_volume() for frame in frames]) > 0


def requests(root: Path, attempt: str, seeds: list[Atoms], **changes: Any) -> list[Request]:
    values: dict[str, Any] = {
        "temperatures": [80.0, 120.0], "pressures_bar": [0.0], "steps": 100, "stride": 5, "timestep_fs": 1.0,
        "trajectories": 3, "shares": None, "seed": 1, "created": "2026-01-01T00:00:00Z", **changes,
    }  # fmt: skip
    found = []
    for task in exploration_tasks(seeds, {"kind": "mace", "model": "tiny.model", "dtype": "float64"}, **values):
        folder = root / "attempts" / task.id / attempt
        folder.mkdir(parents=True)
        found.append((task.to_dict(), folder))
    return found


def test_a_sigkill_costs_no_trajectory_more_than_its_last_checkpoint(root: Path, device: str) -> None:
    """In a child, killed as the kernel kills; another worker goes on where each stood."""
    settings, seeds = TrajectorySettings(root, "a", device, 0.0, 3), [bulk("Cu", a=3.61, cubic=True)]
    asked = requests(root, f"01-{device}", seeds)
    with Child(TrajectoryBench, (settings,), "mace", serves=True) as child:
        child.send(asked)
        deadline = time.monotonic() + 120
        while any((saved := Checkpoint.read(folder)) is None or saved.n_frames < 3 for _, folder in asked):
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    stood = [Checkpoint.read(folder) for _, folder in asked]
    answers = TrajectoryBench(settings)(requests(root, f"02-{device}", seeds))
    assert isinstance(answers, list)
    for (data, first), saved, record in zip(asked, stood, answers, strict=True):
        assert not isinstance(record, AutopipeError)
        assert check_exploration(record) == record
        assert saved is not None
        assert record["info"]["resumed_from_step"] == saved.step < 100
        assert (record["steps"], record["n_frames"], record["complaint"]) == (100, 20, "")
        assert (record["info"]["device"], record["info"]["at_once"]) == (device, 3)
        assert record["info"]["atom_steps_per_s"] > 0
        frames = root / "explored" / data["id"][:2] / record["frames"]
        assert frames.read_bytes().startswith((first / FRAMES).read_bytes()[: saved.frames])
        assert [frame.info["step"] for frame in ase.io.read(frames, ":")] == list(range(5, 101, 5))


def test_what_fails_in_a_batch_is_answered_for_alone(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An element that the model does not know; then a pass that fails for a reason that nobody foresaw."""
    iron = bulk("Fe", a=2.87, cubic=True) * (2, 1, 1)
    settings = TrajectorySettings(root, "a", "cpu", 0.0, 4)
    asked = requests(root, "01-c", [bulk("Cu", a=3.62, cubic=True), iron], steps=10, trajectories=2)
    answers = TrajectoryBench(settings)(asked)
    assert isinstance(answers, list)
    unknown, known = sorted(answers, key=lambda answer: isinstance(answer, dict))
    assert isinstance(unknown, DataError)
    assert isinstance(known, dict)
    assert (known["steps"], known["info"]["at_once"]) == (10, 1)

    def failing(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(MaceBatch, "compute", failing)
    answers = TrajectoryBench(settings)(requests(root, "01-d", [bulk("Cu", a=3.63, cubic=True)], steps=10))
    assert isinstance(answers, list)
    assert [answer["steps"] for answer in answers if isinstance(answer, dict)] == [10, 10, 10]
    assert "nobody foresaw this; now one by one" in caplog.text
