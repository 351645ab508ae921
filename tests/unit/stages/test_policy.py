"""The policy: shares that follow from the material, then from what labels told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_autopipec.stages.policy import Evidence, plan
from mlip_autopipec.structures.seeds.material import of_formula


@pytest.mark.parametrize("formula", ["Al", "NaCl", "CuAu", "Si", "CoCrFeNi", "Ar"])
def test_shares_and_moves_are_whole(formula: str) -> None:
    found = plan(of_formula(formula))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert sum(found.moves.values()) == pytest.approx(1)
    assert all(share > 0 for share in found.shares.values())


def test_the_material_decides() -> None:
    metal, alloy, salt = (plan(of_formula(f)) for f in ("Al", "CuAu", "NaCl"))
    assert "sqs" not in metal.shares
    assert alloy.shares["sqs"] > 0.1
    assert metal.moves["mc"] == salt.moves["mc"] == 0
    assert alloy.moves["mc"] > 0
    assert salt.shares["stacking_fault"] < metal.shares["stacking_fault"]
    assert plan(of_formula("W")).shares["vacancy"] > metal.shares["vacancy"]


def test_every_choice_has_its_reason() -> None:
    told = " ".join(plan(of_formula("W")).reasons)
    assert "3695 K" in told
    assert "soft" in " ".join(plan(of_formula("NaCl")).reasons)
    assert "Fe" in " ".join(plan(of_formula("Fe")).reasons)


def test_where_gamma_was_high_more_is_explored() -> None:
    before = plan(of_formula("Al"))
    after = plan(of_formula("Al"), {"liquid": Evidence(40, 8.0), "rattle": Evidence(40, 1.0)})
    assert after.shares["liquid"] > 1.3 * before.shares["liquid"]
    assert after.shares["rattle"] < before.shares["rattle"]
    assert any("40 labels" in reason for reason in after.reasons)


def test_few_labels_say_little() -> None:
    aluminium = of_formula("Al")

    def share(labels: int) -> float:
        return plan(aluminium, {"liquid": Evidence(labels, 8.0), "rattle": Evidence(100, 1.0)}).shares["liquid"]

    believed, doubted = share(50), share(1)
    assert plan(of_formula("Al")).shares["liquid"] < doubted < believed


def test_what_the_user_gives_wins() -> None:
    found = plan(of_formula("Al"), overrides={"dimer": 0.0, "liquid": 1.0})
    assert "dimer" not in found.shares
    assert found.shares["liquid"] > 0.5
    assert any("given" in reason for reason in found.reasons)


ALUMINIUM, MIXTURE = of_formula("Al"), of_formula("CuAu")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["liquid", "rattle", "vacancy", "eos", "unknown"]),
        st.builds(Evidence, st.integers(0, 10_000), st.floats(0, 1e9)),
    )
)
def test_no_type_dies_out_whatever_the_evidence(evidence: dict[str, Evidence]) -> None:
    before, after = plan(ALUMINIUM), plan(ALUMINIUM, evidence)
    assert set(after.shares) == set(before.shares)
    for name, share in after.shares.items():
        assert share > before.shares[name] / 17


@settings(deadline=None)
@given(st.integers(13, 500))
def test_counts_add_up(total: int) -> None:
    counts = plan(MIXTURE).counts(total)
    assert min(counts.values()) >= 1
    assert total <= sum(counts.values()) <= total + len(counts)
