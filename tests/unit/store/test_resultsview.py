"""The cheap look sees what the full listing sees, whatever happens between two looks."""

import random

from mlip_autopipec.store.results import Results
from mlip_autopipec.store.resultsview import ResultsView


def put(results, task_id):
    path = results.path(task_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def test_no_folder_is_no_results(tmp_path):
    assert ResultsView(Results(tmp_path / "none")).ids() == set()


def test_it_sees_what_comes_and_goes(tmp_path):
    results = Results(tmp_path)
    view = ResultsView(results)
    random.seed(1)
    there = set()
    for number in range(300):
        task_id = f"{random.randrange(6):02x}{number:018x}"
        put(results, task_id)
        there.add(task_id)
        if number % 7 == 3:
            gone = random.choice(sorted(there))
            results.path(gone).unlink()
            there.remove(gone)
        assert view.ids() == there == set(results.ids())


def test_unchanged_folders_are_not_listed_for_ever(tmp_path, monkeypatch):
    results = Results(tmp_path)
    put(results, "ab" + 18 * "0")
    view = ResultsView(results)
    listed = []
    original = results.ids_of_shard
    monkeypatch.setattr(results, "ids_of_shard", lambda name: listed.append(name) or original(name))
    for _ in range(30):
        assert len(view.ids()) == 1
    assert len(listed) < 10


def test_a_foreign_file_is_no_result(tmp_path):
    results = Results(tmp_path)
    put(results, "ab" + 18 * "0")
    (tmp_path / "ab" / "notes.txt").write_text("x")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "zz").write_text("a file")
    assert ResultsView(results).ids() == {"ab" + 18 * "0"}
