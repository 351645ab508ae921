"""`autopipe queue`: the mistakes of its users, and odd files that they want to see."""

import json

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.cli.main import main
from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.store.rundir import RunDirectory
from queue_tools import make_record, make_task, open_queue


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.config_file.write_text(
        "start: {structure: start.xyz, dataset: start.xyz}\nlabeller: {engine: teacher, model: emt}\n"
    )
    ase.io.write(run.root / "start.xyz", bulk("Al", cubic=True), format="extxyz")
    return run


@pytest.fixture
def queue(run):
    return open_queue(run.root, "w1")


@pytest.fixture
def autopipe(run, capsys):
    """Run one command of `autopipe queue`; return (exit code, stdout, stderr)."""

    def call(command, *words):
        with pytest.raises(SystemExit) as ended:
            main(["queue", command, "-C", str(run.root), *map(str, words)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_exit_codes(run, queue, autopipe):
    waiting, done = make_task(1), make_task(2, 9.0)
    queue.publish(waiting)
    queue.publish(done)
    queue.complete(queue.claim(), make_record(done))
    assert autopipe("show", "ffff")[0] == 4
    assert autopipe("hold", done.id)[0] == 2
    assert autopipe("release", waiting.id)[0] == 2
    assert autopipe("cancel", done.id)[0] == 2
    assert autopipe("retry", waiting.id)[0] == 2
    assert autopipe("show")[0] == 2
    run.queue.joinpath("dft").chmod(0o777)
    code, _, told = autopipe("hold", waiting.id)
    assert code == 78
    assert "chmod" in told


def test_a_corrupt_task_that_is_requeued(queue, autopipe):
    queue.layout.create()
    (queue.layout.corrupt / f"{make_task(1).id}.json").write_text("{")
    code, _, told = autopipe("requeue", make_task(1).id)
    assert code == 2
    assert "not valid JSON" in told


@pytest.mark.parametrize("words", [["show", "ffff"], ["ls", "--state", "nowhere"], ["nonsense"]])
def test_errors_for_programs(autopipe, words):
    code, out, err = autopipe(*words, "--json")
    told = json.loads(out)
    assert set(told) == {"error", "hint"}
    assert told["error"]
    assert told["error"] in err
    assert code in (2, 4)
    assert autopipe(*words)[1] == ""


def test_structures_of_other_elements_are_refused(run, queue, autopipe, tmp_path):
    ase.io.write(tmp_path / "in.extxyz", [bulk("Al", cubic=True), bulk("Cu", cubic=True)])
    code, _, told = autopipe("import", tmp_path / "in.extxyz")
    assert code == 2
    assert "in.extxyz:2: element Cu is unknown to this run (Al)" in told
    assert list(queue.ls()) == []


def test_structures_that_the_labeller_does_not_know_are_refused(run, queue, autopipe, tmp_path):
    ase.io.write(run.root / "start.xyz", [bulk("Al", cubic=True), bulk("Mo", cubic=True)], format="extxyz")
    ase.io.write(tmp_path / "in.extxyz", [Atoms("Al", cell=[9, 9, 9], pbc=True), bulk("Mo", cubic=True)])
    code, _, told = autopipe("import", tmp_path / "in.extxyz")
    assert code == 2
    assert "in.extxyz:2: " in told
    assert "no parameters for Mo" in told
    assert list(queue.ls()) == []


def test_export_into_a_folder_that_is_not_there(queue, autopipe, tmp_path):
    queue.publish(make_task(1))
    code, _, told = autopipe("export", make_task(1).id, tmp_path / "no" / "out.extxyz")
    assert code == 4
    assert f"mkdir -p {tmp_path}/no" in told


def test_files_without_an_id_are_shown(queue, autopipe):
    queue.layout.create()
    queue.publish(make_task(1))
    (queue.layout.pending / "00-first" / "odd name.json").write_text("{]")
    for _ in range(3):
        queue.sweep()
        queue._clock.advance(60)
    assert (queue.layout.corrupt / "odd name.json").exists()
    listed = [row["id"] for row in json.loads(autopipe("ls", "--state", "corrupt", "--json")[1])]
    assert listed == ["odd name.json"]
    for word in ("odd name.json", "odd"):
        facts = json.loads(autopipe("show", word, "--json")[1])
        assert facts["state"] == "corrupt"
        assert facts["bytes"] == 2
        assert "not valid JSON" in facts["reason"]
        assert facts["path"] == "queue/dft/corrupt/odd name.json"
    text = autopipe("show", "odd")[1]
    assert "bytes     2" in text
    assert "not valid JSON" in text
    (queue.layout.corrupt / "oddity.json").write_text("")
    assert autopipe("show", "odd")[0] == 2


def test_a_running_task_shows_since_when(queue, autopipe):
    queue.publish(make_task(1))
    queue.claim()
    facts = json.loads(autopipe("show", make_task(1).id, "--json")[1])
    assert facts["since"].startswith("20")
    assert "since     20" in autopipe("show", make_task(1).id)[1]


def test_tables_in_a_pipe_have_whole_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = "/".join(["queue"] * 40)
    print_table("a title", ("state", "path"), [("pending", path), ("done", None)])
    lines = capsys.readouterr().out.splitlines()
    assert any(path in line for line in lines)
    assert len(lines) == 4
    assert max(map(len, lines)) < 300
