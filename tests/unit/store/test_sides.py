"""Which labels are held out: a share, in whole segments of time, for ever."""

from itertools import pairwise

from mlip_autopipec.store.sides import brought, side_of


def start(number, source="start.dataset"):
    return side_of("bootstrap", {"source": source, "number": number})


def test_what_walkers_wait_for_and_the_first_frames_are_learned():
    assert side_of("active_learning", {"walker": "w00", "step": 180, "version": "v0001"}) == "train"
    assert side_of("candidate", {"walker": "w00", "step": 180, "collected": "candidate"}) == "train"
    assert {start(n) for n in range(10)} == {"train"}
    assert side_of("audit", {"walker": "w00", "step": 180}) == "validation"


def test_a_share_of_start_structures_is_held_out_wherever_their_labels_come_from():
    sides = [start(n) for n in range(20_000)]
    assert 0.06 < sides.count("validation") / len(sides) < 0.1
    assert 0.015 < sides.count("margin") / len(sides) < 0.025
    assert sides == [start(n, "bootstrap") for n in range(20_000)]


def test_neighbours_in_time_are_never_on_both_sides():
    frames = [start(n) for n in range(5_000)]
    cells = [side_of("whole_cell", {"source": "whole_cell", "of": "w01", "step": s}) for s in range(0, 200_000, 50)]
    for sides in (frames, cells):
        assert {"train", "validation", "margin"} == set(sides)
        assert {"train", "validation"} not in [set(pair) for pair in pairwise(sides)]


def test_sixty_frames_are_enough_to_hold_some_out_and_a_walker_always_learns_its_first_whole_cell():
    assert [start(n) for n in range(60)].count("validation") == 8
    first, later = set(), set()
    for walker in (f"w{k:02}" for k in range(30)):
        sides = [
            side_of("whole_cell", {"source": "whole_cell", "of": walker, "step": s}) for s in range(0, 10_000, 500)
        ]
        first |= set(sides[:2])
        later.add(sides.index("validation"))
    assert first == {"train"}
    assert len(later) > 5


def test_audits_of_another_run_are_no_draws_of_this_one():
    assert brought("audit") == "former_audit"
    assert side_of(brought("audit"), {"source": "start.dataset", "number": 3}) == "train"
    assert brought("bootstrap") == "bootstrap"


def test_children_of_one_seed_are_on_one_side():
    sides = [{side_of("bootstrap", {"parent": f"seed{k}", "number": n}) for n in range(5)} for k in range(200)]
    assert all(len(side) == 1 for side in sides)
    assert 5 < sides.count({"validation"}) < 40


def test_odd_origins_are_learned():
    for origin in ({}, {"source": "start.dataset"}, {"source": "start.dataset", "number": True}, {"source": "import"}):
        assert side_of("imported", origin) == "train"
