"""Potential files that nobody can evaluate are refused with file, key and reason; no damage leads to another error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yace_reading import parse_yace
from mlip_autopipec.ace.formats.yaml_reading import parse_yaml
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.lanes.harmonics import MOST_L
from mlip_autopipec.ace.terms import Potential, from_basis, from_products
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.neighbours import neighbourhood


def sub(pattern: str, replacement: str, count: int = 1) -> Callable[[str], str]:
    """Return an edit of a file's text; it must change something."""

    def edit(text: str) -> str:
        changed = re.sub(pattern, replacement, text, count=count, flags=re.MULTILINE)
        assert changed != text, pattern
        return changed

    return edit


# potential, edit, words of the message
YAML_CASES = {
    "no radparameters": ("AlNi_fs2", sub(r"radparameters: .*", "radparameters: []"), ("radparameters", "needs one")),
    "lambda of zero": ("AlNi_fs2", sub(r"radparameters: .*", "radparameters: [0]"), ("radparameters", "other than 0")),
    "lambda negative": ("Al_ChebPow", sub(r"radparameters: .*", "radparameters: [-2]"), ("radparameters", "above 0")),
    "lambda too steep": ("AlNi_fs2", sub(r"radparameters: .*", "radparameters: [1e5]"), ("radparameters", "at most")),
    "mixed inner cutoffs": (
        "AlNi_core_density",
        sub(r"(?s)\A(.*)inner_cutoff_type: density", r"\1inner_cutoff_type: distance", 1),
        ("species[", "differ"),
    ),
    "mixed inner cutoffs of elements": (
        "AlNi_core_density",
        sub(r"inner_cutoff_type: density", "inner_cutoff_type: distance"),
        ("species[0]", "inner cutoff", "the same inner_cutoff_type"),
    ),
    "zbl without a dcut": ("AlNi_core_zbl", sub(r"dcutij: .*", "dcutij: 0", 9), ("species[0]", "dcut", "above 0")),
    "zbl of no element": ("AlNi_core_zbl", sub(r"\bNi\b", "Qq", 0), ("species", "Qq is no chemical element")),
    "auxdata of numbers": ("Al_SBessel", lambda t: "auxdata: {_int: 3}\n" + t, ("auxdata._int", "keys and values")),
    "auxdata nested": ("Al_SBessel", lambda t: "auxdata: {_int: {a: {b: 1}}}\n" + t, ("auxdata._int.a", "text")),
    "dcut negative": ("AlNi_fs2", sub(r"dcutij: .*", "dcutij: -0.1"), ("dcutij", "negative")),
    "r_in negative": ("AlNi_fs2", sub(r"r_in: .*", "r_in: -1"), ("r_in", "negative")),
    "cutoff of a mile": ("AlNi_fs2", sub(r"rcutij: .*", "rcutij: 1e5"), ("rcutij", "at most 100")),
    "bins beyond memory": ("Al_SBessel", sub(r"DeltaSplineBins: .*", "DeltaSplineBins: 1e-9"), ("cutoff", "bins")),
    "no bins": ("Al_SBessel", sub(r"DeltaSplineBins: .*", "DeltaSplineBins: 50"), ("cutoff", "bins")),
    "lmax beyond memory": ("Al_SBessel", sub(r"lmaxi: .*", "lmaxi: 999"), ("lmaxi", "at most 30")),
    "exponent of zero": ("AlNi_fs2", sub(r"^( *)parameters: .*", r"\1parameters: [1, 0, 1, 1]"), ("parameters", "0.0")),
    "the same block twice": (
        "AlNi_fs2",
        lambda t: t + re.search(r"(?s)  - speciesblock: Ni Al\n.*", t)[0],
        ("species[4]", "a second block Ni Al"),
    ),
    "deeply nested": ("Al_SBessel", lambda t: "metadata: " + "[" * 100000, ("YAML",)),
}
YACE_CASES = {
    "m that do not add up to 0": (
        sub(r"ls: \[1, 1\], ms_combs: \[[^]]*\]", "ls: [1, 1], ms_combs: [0, 0, 1, 1]"),
        ("functions.0[", "ms_combs", "add up"),
    ),
    "rank 1 with l": (sub(r"(rank: 1, .*?)ls: \[0\]", r"\1ls: [1]"), ("functions.0[", "ls", "rank-1")),
    "no radparameters": (sub(r"radparameters: \[[^]]*\]", "radparameters: []"), ("bonds.[0, 0]", "radparameters")),
    "mixed inner cutoffs": (
        sub(r"inner_cutoff_type: \w+", "inner_cutoff_type: zbl"),
        ("bonds.[0, 0]", "the same inner_cutoff_type"),
    ),
    "an index beyond 32 bits": (sub(r"ms_combs: \[0\]", "ms_combs: [99999999999]"), ("ms_combs[0]", "at most")),
}


def complaint(read: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize("case", YAML_CASES)
def test_yaml(ace, case) -> None:
    name, edit, words = YAML_CASES[case]
    message = complaint(lambda: parse_yaml(edit(ace.pot(f"{name}.yaml").read_text()), "my/file.yaml"))
    assert message.startswith("my/file.yaml: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("case", YACE_CASES)
def test_yace(ace, case) -> None:
    edit, words = YACE_CASES[case]
    message = complaint(lambda: parse_yace(edit(ace.pot("AlNi_fs2.yace").read_text()), "my/file.yace"))
    assert message.startswith("my/file.yace: ")
    for word in words:
        assert word in message


def test_a_steep_power_is_no_warning(ace) -> None:
    text = sub(r"radparameters: .*", "radparameters: [0.5]")(ace.pot("Al_ChebPow.yaml").read_text())
    assert np.isfinite(energies(from_basis(make_basis(parse_yaml(text))))).all()


def test_active_set_files(ace, tmp_path: Path) -> None:
    file, good = tmp_path / "x.asi", ace.pot("Al_SBessel.asi").read_bytes()
    for content in (b"", b"PK", good[: len(good) // 2], good[:-30]):
        file.write_bytes(content)
        assert complaint(lambda: read_asi(file)).startswith(f"{file}: not an active set: ")
    with file.open("wb") as handle:
        np.save(handle, np.eye(3))
    assert "not an active set" in complaint(lambda: read_asi(file))
    with file.open("wb") as handle:
        np.savez(handle)
    assert "holds no matrix" in complaint(lambda: read_asi(file))
    with file.open("wb") as handle:
        np.savez(handle, Al=np.full((3, 3), np.inf))
    assert "x.asi: Al: has numbers that are not finite" in complaint(lambda: read_asi(file))


# --- fuzz ------------------------------------------------------------------------------------------------------------

FRAGMENTS = [
    "",
    "0",
    "-1",
    "3",
    "1.5",
    "nan",
    ".inf",
    "x",
    "[]",
    "[1]",
    "{}",
    "null",
    "1e5",
    "-0.3",
    "true",
    "Ni",
    "&a",
]


def mutate(text: str, rng: np.random.Generator) -> str:
    """Return `text` with one or two places replaced, lines lost, doubled or exchanged, or the end cut off."""
    for _ in range(rng.integers(1, 3)):
        tokens = list(re.finditer(r"[-+\w.]+|[\[\]{}:,]", text))
        token, lines = tokens[rng.integers(len(tokens))], text.splitlines(keepends=True)
        line = int(rng.integers(len(lines)))
        match int(rng.integers(8)):
            case 0:
                text = "".join(lines[:line] + lines[line + 1 :])
            case 1:
                text = "".join(lines[: line + 1] + lines[line:])
            case 2:
                lines[line], lines[line - 1] = lines[line - 1], lines[line]
                text = "".join(lines)
            case 3 if rng.random() < 0.3:
                text = text[: token.start()]
            case 4:
                other = tokens[rng.integers(len(tokens))]
                text = text[: token.start()] + other[0] + text[token.end() :]
            case _:
                text = text[: token.start()] + str(rng.choice(FRAGMENTS)) + text[token.end() :]
        if not re.search(r"\w", text):
            return text
    return text


def energies(potential: Potential) -> np.ndarray:
    """Return energies and forces of a small cluster by the plain path."""
    elements = (potential.elements * 5)[:5]
    positions = [[0, 0, 0], [2.6, 0, 0], [0, 2.7, 0.4], [1.9, 2.2, 2.0], [-2.3, 0.6, 1.1]]
    frame = neighbourhood(Atoms(positions=positions), potential.cutoff, ["X"])
    species = np.arange(5) % len(elements[: len(potential.elements)])
    frame.species[:] = species[frame.owners]
    evaluator = AceEvaluator(potential, threads=1, path="reference")
    found = evaluator.evaluate(frame)
    return np.concatenate([found.energies, found.forces.ravel()])


def small(text: str) -> str:
    """Return a potential with few functions, so that mutations hit everything."""
    kept: dict[str, int] = {}

    def keep(line: str) -> bool:
        found = re.search(r"rank: (\d)|nr: \[([^]]*)\]", line)
        if not found:
            return True
        key = found[1] or str(found[2].count(",") + 1)
        kept[key] = kept.get(key, 0) + 1
        return kept[key] <= 2

    return "".join(line for line in text.splitlines(keepends=True) if keep(line))


@pytest.mark.parametrize("suffix", ["yaml", "yace"])
@pytest.mark.parametrize("name", ["AlNi_core_zbl", "AlNi_core_distance", "Al_ChebPow", "Al_SBessel"])
def test_damaged_potentials(ace, name, suffix) -> None:
    rng = np.random.default_rng(len(name))
    text = small(ace.pot(f"{name}.{suffix}").read_text())
    read = {"yaml": lambda t: from_basis(make_basis(parse_yaml(t))), "yace": lambda t: from_products(parse_yace(t))}
    assert np.isfinite(energies(read[suffix](text))).all()
    outcomes: Counter[str] = Counter()
    for _ in range(100):
        damaged = mutate(text, rng)
        try:
            potential = read[suffix](damaged)
        except ModelError as error:
            outcomes["refused" if str(error).startswith("<text>: ") else "refused without the file"] += 1
            continue
        assert np.isfinite(energies(potential)).all()
        outcomes["read"] += 1
    assert set(outcomes) == {"refused", "read"}, outcomes
    assert min(outcomes.values()) > 5, outcomes


def test_damaged_active_sets(ace, tmp_path: Path) -> None:
    rng, good, file = np.random.default_rng(1), ace.pot("AlNi_linear.asi").read_bytes(), tmp_path / "x.asi"
    nameless = 0
    directory = good.rindex(b"PK\x01\x02")
    for number in range(200):
        content = bytearray(good)
        # The structure of the archive is a small part of it: hit it half of the time.
        places = rng.integers(directory, len(good), 2) if number % 2 else rng.integers(0, len(good), 3)
        for place in places:
            content[place] ^= 1 << rng.integers(8)
        file.write_bytes(content[: rng.integers(1, len(good))] if number % 7 == 0 else content)
        try:
            matrices = read_asi(file)
        except ModelError as error:
            nameless += "x.asi" not in str(error)
            continue
        assert all(np.isfinite(matrix).all() for matrix in matrices.values())
    assert nameless == 0


def test_angular_momenta_beyond_the_fast_path_are_refused_and_not_dropped() -> None:
    recipe = BasisRecipe(("Al",), {"ALL": FunctionLimits((2, 1), (0, MOST_L))}, {"ALL": RadialSettings(4.0)})
    configuration = standard_configuration(recipe)
    (block,) = configuration.blocks
    assert block.bond is not None
    radial = block.bond.radcoefficients  # [n][l][k], the same for every l
    bond = replace(block.bond, radcoefficients=np.concatenate([radial, radial[:, -1:]], axis=1))
    above = replace(block.functions[-1], ls=(MOST_L + 1,) * 2)
    whole = replace(configuration, blocks=(replace(block, bond=bond, functions=(*block.functions, above)),))
    potential = from_basis(make_basis(whole))
    with pytest.raises(ModelError, match=f"l = {MOST_L + 1}, and the vectorised evaluator goes up to {MOST_L}"):
        AceEvaluator(potential)
    frame = neighbourhood(Atoms("Al3", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]]), potential.cutoff, ("Al",))
    assert AceEvaluator(potential, path="reference").projections(frame).shape[1] == potential.n_functions[0]
