"""The cost ledger: what labels took, by size, rung and end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlip_autopipec.cli.dft import dft
from mlip_autopipec.cli.statusview import print_status
from mlip_autopipec.monitor.costs import costs, summary
from mlip_autopipec.monitor.problems import problems
from mlip_autopipec.monitor.status import collect
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.store.costs import Cost, CostLedger, label_costs
from mlip_autopipec.store.rundir import RunDirectory

RESCUED = Cost(
    "a" * 20, {"Al": 32}, 4, 30.0, "done", (("as wanted", 10.0, "oscillating"), ("smaller mixing", 18.0, "converged"))
)
LINES = [
    RESCUED,
    Cost("b" * 20, {"Al": 20}, 4, 10.0, "done", (("as wanted", 9.0, "converged"),)),
    Cost("c" * 20, {"Al": 20}, 1, 0.01, "reused"),
    Cost("d" * 20, {"Al": 8, "Ni": 8}, 4, 5.0, "failed", (("as wanted", 5.0, "overlapping atoms"),)),
    Cost("d" * 20, {"Al": 8, "Ni": 8}, 1, 2.0, "given back"),
    Cost("e" * 20, {"Al": 1}, 1, 1.0, "done"),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    run.config_file.write_text("")
    for number, cost in enumerate(LINES):
        CostLedger(run.costs, f"dft-{number % 2}").add(cost)
    return run


def test_everything_that_was_spent_is_counted_once(run: RunDirectory) -> None:
    facts = costs(run)
    assert (facts["labels"], facts["reused"], facts["without_label"]) == (3, 1, 2)
    assert facts["core_s"] == pytest.approx(120 + 40 + 0.01 + 20 + 2 + 1)
    assert facts["core_s_without_label"] == 22
    assert facts["core_s"] == pytest.approx(sum(size["core_s"] for size in facts["sizes"]))
    assert facts["core_s"] == pytest.approx(sum(end["core_s"] for end in facts["ends"].values()))


def test_sizes_and_rungs(run: RunDirectory) -> None:
    facts = costs(run)
    sizes = {(size["elements"], size["atoms"]): size for size in facts["sizes"]}
    assert list(sizes) == [("Al", "1"), ("Al", "17-32"), ("Al-Ni", "9-16")]
    aluminium = sizes["Al", "17-32"]
    assert (aluminium["attempts"], aluminium["labels"], aluminium["reused"]) == (3, 2, 1)
    assert aluminium["core_s_per_label"] == 80
    assert aluminium["core_s_per_atom"] == pytest.approx(160 / 52)
    assert sizes["Al-Ni", "9-16"]["core_s_per_label"] is None
    assert {rung["rung"]: (rung["runs"], rung["converged"], rung["core_s"]) for rung in facts["rungs"]} == {
        "as wanted": (3, 1, 96.0), "smaller mixing": (1, 1, 72.0),
    }  # fmt: skip


def test_damaged_lines_hide_no_others(run: RunDirectory) -> None:
    with (run.costs / "dft-0.jsonl").open("a") as ledger:
        ledger.write('{"task": 1}\n{\n[]\n\xff\n')
    assert costs(run)["labels"] == 3
    assert summary([])["core_s_per_label"] is None


def test_a_ledger_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "costs").write_text("a file where the folder should be")
    CostLedger(tmp_path / "costs", "dft-0").add(RESCUED)


def test_status_and_tables(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    Heartbeat(run.heartbeats / "trainer-worker.json", "trainer-worker").beat("idle", {"flagged": 2})
    facts = collect(run)
    assert (facts["costs"]["labels"], facts["flagged"]) == (3, 2)
    print_status(facts, problems(facts))
    lines = capsys.readouterr().out.splitlines()
    assert (
        "cost: 183 core-s for 3 labels (61 for each), 22 of them in 2 attempts without one; 1 labels reused: "
        "autopipe dft costs" in lines
    )
    assert "flagged: 2 labels are kept, but odd: autopipe dft flagged" in lines
    shown = CliRunner().invoke(dft, ["costs", "-C", str(run.root)], catch_exceptions=False).output
    assert "smaller mixing" in shown
    as_json = CliRunner().invoke(dft, ["costs", "--json", "-C", str(run.root)], catch_exceptions=False).output
    assert json.loads(as_json)["labels"] == 3


def test_flagged_labels_of_a_run_without_a_dataset(run: RunDirectory) -> None:
    shown = CliRunner().invoke(dft, ["flagged", "--json", "-C", str(run.root)], catch_exceptions=False).output
    assert json.loads(shown) == {}


def test_what_a_label_costs_is_learned_from_computed_ones(tmp_path: Path) -> None:
    ledger = CostLedger(tmp_path, "w")
    for end in ("done", "reused", "failed"):
        ledger.add(Cost("t", {"Al": 3, "Ni": 1}, 2, 5.0, end))
    assert list(label_costs(tmp_path)) == [(4, 10.0)]
    assert list(label_costs(tmp_path / "none")) == []
