"""Recorded ends of the real pw.x (Debian's 6.7; tests/data/espresso/index.json says how each was provoked)."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.espresso import EspressoTemplate
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_autopipec.core.errors import AutopipeError, OutputUnreadable
from mlip_autopipec.core.program import Ended, Stop
from mlip_autopipec.engines.espresso.failures import Failure, Kind, Report, classify
from mlip_autopipec.engines.espresso.outputs import read_label
from mlip_autopipec.engines.espresso.trace import Trace, states

DATA = Path(__file__).parents[2] / "data" / "espresso"
INDEX: dict[str, dict[str, Any]] = json.loads((DATA / "index.json").read_text())
CONVERGED = (DATA / "converged.pwo").read_text()
LINES = {name: (DATA / f"{name}.pwo").read_text().splitlines(keepends=True) for name in INDEX}


def text(name: str) -> str:
    path = DATA / name
    return path.read_text() if path.exists() else ""


def recorded(name: str) -> Report:
    ended = Ended(INDEX[name]["code"], 10.0)
    return Report(ended, text(f"{name}.pwo"), text(f"{name}.err"), text(f"{name}.CRASH"))


@pytest.mark.parametrize("name", INDEX)
def test_recorded_ends_have_their_class(name: str) -> None:
    found = classify(recorded(name))
    assert (str(found.kind) if found else "converged") == INDEX[name]["end"]
    if found:
        error = found.error()
        assert isinstance(error, AutopipeError)
        assert error.hint
        assert "\n" not in str(error)


def test_every_class_is_an_error_with_a_hint() -> None:
    for kind in Kind:
        error = Failure(kind, "what happened").error()
        assert error.message == "what happened"
        assert error.hint


def test_messages_name_the_cause() -> None:
    messages = {name: found.message for name in INDEX if (found := classify(recorded(name)))}
    assert "ecutwfk" in messages["bad-key"]
    assert "Al.none.UPF not found" in messages["missing-pseudopotential"]
    assert "****" in messages["overlap"]
    assert "Cannot allocate memory" in messages["memory"]
    assert "2 iterations, last estimated error 0.011 Ry" in messages["not-converged"]
    assert "exit code 43 within an iteration" in messages["aborted-in-iteration"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("slurmstepd: error: Detected 1 oom-kill event(s)", Kind.MEMORY),
        ("At line 55 of file buffers.f90\nError: No space left on device", Kind.DISK),
        ("problems computing cholesky", Kind.CHOLESKY),
        ("Segmentation fault", Kind.CRASHED),
    ],
)
def test_what_others_say(said: str, kind: Kind) -> None:
    found = classify(Report(Ended(1, 1.0), "", said, ""))
    assert found is not None
    assert found.kind is kind


def test_stopped_by_us() -> None:
    for stop, kind in ((Stop.TIME, Kind.MAX_TIME), (Stop.HOPELESS, Kind.OSCILLATING)):
        found = classify(Report(Ended(-15, 1.0, stop), text("oscillating.pwo"), "", ""))
        assert found is not None
        assert found.kind is kind


@pytest.mark.parametrize("name", INDEX)
def test_no_half_output_is_a_label(name: str) -> None:
    """Cut after every line, whatever the exit code: a class of failure, never a label, never a traceback."""
    below_job_done = 3
    for cut in range(max(0, len(LINES[name]) - below_job_done)):
        output = "".join(LINES[name][:cut])
        for code in {0, 1, 2, -9, INDEX[name]["code"]}:
            found = classify(Report(Ended(code, 1.0), output, "", ""))
            assert found is not None
            assert found.message
            assert found.error().hint


@given(name=st.sampled_from(sorted(INDEX)), data=st.data())
@settings(max_examples=400, deadline=None)
def test_files_that_are_cut_anywhere(name: str, data: st.DataObject) -> None:
    """Output, error output and CRASH file each cut within a line: what is said is never a label that is not there."""
    whole = recorded(name)
    texts = (whole.output, whole.error, whole.crash)
    cuts = [data.draw(st.integers(0, len(content)), label="cut") for content in texts]
    report = Report(whole.ended, *(content[:cut] for content, cut in zip(texts, cuts, strict=True)))
    found = classify(report)
    if found is None:
        assert INDEX[name]["end"] == "converged"
        label = read_label(report, 4, stress=True)
        assert label.energy == read_label(whole, 4, stress=True).energy
    else:
        assert found.message
        assert "\n" not in str(found.error())
    with contextlib.suppress(OutputUnreadable):
        label = read_label(report, 4, stress=True)
        assert np.isfinite(label.forces).all()


def test_reading_a_label() -> None:
    label = read_label(recorded("converged"), 4, stress=True)
    assert label.energy == pytest.approx(-16.54689764 * 13.605693, abs=1e-5)
    assert label.forces[0] == pytest.approx(np.array([-0.01036303, 0.03562436, -0.00293045]) * 25.71104, rel=1e-5)
    # Voigt order xx yy zz yz xz xy, tension positive; kbar = 0.1 GPa.
    kbar = np.array([-79.94, -42.95, -78.10, -6.04, -2.12, -6.74])
    assert label.stress == pytest.approx(-kbar * 0.1 / 160.2177, abs=2e-5)
    assert label.info["scf_iterations"] == 7
    assert read_label(recorded("converged"), 4, stress=False).stress is None
    with pytest.raises(OutputUnreadable, match="forces of 4 atoms instead of 5"):
        read_label(recorded("converged"), 5, stress=True)


def test_ase_reads_the_same(tmp_path: Path) -> None:
    shutil.copy(DATA / "converged.pwo", tmp_path / "espresso.pwo")
    ase = EspressoTemplate().read_results(tmp_path)
    label = read_label(recorded("converged"), 4, stress=True)
    assert label.energy == pytest.approx(ase["free_energy"], rel=1e-7)
    assert label.forces == pytest.approx(ase["forces"], rel=1e-6)
    assert label.stress == pytest.approx(ase["stress"], rel=1e-6)


def test_a_cut_output_that_claims_to_be_done() -> None:
    """Even with `JOB DONE` and `convergence has been achieved` below the cut: the true label or a clear error."""
    whole = read_label(recorded("converged"), 4, stress=True)
    labels = 0
    for cut in range(len(LINES["converged"])):
        output = (
            "".join(LINES["converged"][:cut]) + "     convergence has been achieved in   7 iterations\n JOB DONE.\n"
        )
        try:
            label = read_label(Report(Ended(0, 1.0), output, "", ""), 4, stress=True)
        except OutputUnreadable:
            continue
        labels += 1
        assert label.energy == whole.energy
        assert np.array_equal(label.forces, whole.forces)
        assert np.array_equal(label.stress, whole.stress)
    assert 0 < labels < 60


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("-16.54689764 Ry\n     estimated", "************ Ry\n     estimated", "energy cannot be read"),
        ("0.01593749", "0.01593749-123.1", "forces cannot be read"),
        ("0.01593749", "NaN", "forces cannot be read"),
        ("-0.00054343  -0.00004585", "-0.00054343********", "stress cannot be read"),
    ],
)
def test_numbers_that_are_none(good: str, bad: str, words: str) -> None:
    assert CONVERGED.count(good) == 1
    with pytest.raises(OutputUnreadable, match=words):
        read_label(Report(Ended(0, 1.0), CONVERGED.replace(good, bad), "", ""), 4, stress=True)


# --- the course of an SCF --------------------------------------------------------------------------------------


def test_trace_of_recorded_outputs() -> None:
    assert Trace.of(CONVERGED).accuracies[1:] == (0.01146217, 0.00148919, 0.00002546, 0.00000644, 3.0e-7, 8.6e-9)
    assert states(CONVERGED) == 10
    assert states("") is None
    assert Trace.of("estimated scf accuracy    <   ********* Ry").accuracies == (float("inf"),)
    assert str(Trace(())) == "0 iterations, last estimated error ? Ry"


def test_hopeless_and_hopeful() -> None:
    falling = Trace(tuple(10.0 ** (-i / 5) for i in range(60)))
    assert not falling.is_hopeless(10)
    assert falling.falls()
    # Slow, but it arrives.
    assert not Trace(tuple(0.9**i for i in range(100))).is_hopeless(20)
    stalled = Trace((1.0, 0.1, 0.1, *(0.01 + 0.001 * (i % 3) for i in range(40))))
    # Near the end it may wander.
    assert not Trace((1.0, 0.1, 0.1, 1e-7, *[1e-6] * 60)).is_hopeless(20)
    assert stalled.is_hopeless(20)
    assert not stalled.is_hopeless(60)
    grown = Trace((1.0, 0.1, 0.1, 1e-3, 1e-3, *(10.0**i for i in range(6))))
    assert grown.is_hopeless(10)
    assert not grown.is_hopeless(20)
    assert Trace.of(text("oscillating.pwo")).is_hopeless(20)
    assert not Trace.of(text("oscillating.pwo")).falls()
    assert not Trace.of(CONVERGED).is_hopeless(5)
