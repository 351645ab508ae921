"""Potential files: exact round trips, `.yace` from `.yaml`, and clear words about malformed files."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi, write_asi
from mlip_autopipec.ace.formats.lines import parse_lines
from mlip_autopipec.ace.formats.yace_reading import parse_yace, read_yace
from mlip_autopipec.ace.formats.yace_writing import write_yace, yace_text
from mlip_autopipec.ace.formats.yaml_reading import parse_yaml, read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml, yaml_text
from mlip_autopipec.ace.terms import from_basis, from_products
from mlip_autopipec.core.errors import ModelError


def plain(node: yaml.Node) -> object:
    """Return a YAML node as numbers, text, lists and dictionaries; a list as a key becomes text."""
    if isinstance(node, yaml.MappingNode):
        return {str(plain(key)): plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(value) for value in node.value]
    assert isinstance(node, yaml.ScalarNode)
    try:
        return float(node.value)
    except ValueError:
        return str(node.value)


def document(text: str) -> object:
    """Return a file's content without the help of our own readers."""
    return plain(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def assert_same(x: object, y: object, place: str = "") -> None:
    """Compare records bit for bit, arrays included."""
    assert type(x) is type(y), place
    if is_dataclass(x):
        for entry in fields(x):
            assert_same(getattr(x, entry.name), getattr(y, entry.name), f"{place}.{entry.name}")
    elif isinstance(x, np.ndarray):
        assert x.dtype == y.dtype, place
        assert np.array_equal(x, y), place
    elif isinstance(x, dict):
        assert set(x) == set(y), place
        for key in x:
            assert_same(x[key], y[key], f"{place}[{key}]")
    elif isinstance(x, tuple | list):
        assert len(x) == len(y), place
        for index, (a, b) in enumerate(zip(x, y, strict=True)):
            assert_same(a, b, f"{place}[{index}]")
    else:
        assert x == y, place


def test_names_are_all_the_potentials(ace) -> None:
    assert {file.stem for file in (ace.folder / "pots").glob("*.yaml")} == set(ace.names)


def test_yaml_round_trip(ace, name, tmp_path) -> None:
    original = ace.pot(f"{name}.yaml")
    configuration = read_yaml(original)
    write_yaml(configuration, tmp_path / "copy.yaml")
    assert document((tmp_path / "copy.yaml").read_text()) == document(original.read_text())
    assert_same(read_yaml(tmp_path / "copy.yaml"), configuration)


def test_yace_round_trip(ace, name, tmp_path) -> None:
    original = ace.pot(f"{name}.yace")
    potential = read_yace(original)
    write_yace(potential, tmp_path / "copy.yace")
    assert document((tmp_path / "copy.yace").read_text()) == document(original.read_text())
    assert_same(read_yace(tmp_path / "copy.yace"), potential)


def _active_sets(ace) -> list[Path]:
    return sorted((ace.folder / "pots").glob("*.asi*"))


def test_asi_round_trip(ace, tmp_path) -> None:
    files = _active_sets(ace)
    assert len(files) == len(ace.names) + 1
    for file in files:
        matrices = read_asi(file)
        # A suffix that numpy would append must not come.
        write_asi(matrices, tmp_path / file.name)
        again = read_asi(tmp_path / file.name)
        with np.load(file) as raw, np.load(tmp_path / file.name) as copy:
            assert raw.files == copy.files == list(matrices) == list(again)
            for element in raw.files:
                assert raw[element].tobytes() == copy[element].tobytes() == again[element].tobytes()


def test_asi_files_suit_the_reader_of_lammps(tmp_path) -> None:
    matrix = np.asfortranarray(np.arange(9.0).reshape(3, 3))
    write_asi({"Al": matrix, "Ni": 2 * matrix}, tmp_path / "x.asi")
    with zipfile.ZipFile(tmp_path / "x.asi") as archive:
        assert archive.namelist() == ["Al.npy", "Ni.npy"]
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            header = archive.read(member)[:128]
            assert b"'fortran_order': False" in header
            assert b"'<f8'" in header
    np.testing.assert_array_equal(read_asi(tmp_path / "x.asi")["Al"], matrix)


def test_yace_from_yaml(ace, name) -> None:
    found, expected = to_products(ace.basis(name)), read_yace(ace.pot(f"{name}.yace"))
    assert found.elements == expected.elements
    assert found.isolated_energies == expected.isolated_energies
    assert found.spline_step == expected.spline_step
    assert_same(found.embeddings, expected.embeddings)
    assert set(found.bonds) == set(expected.bonds)
    for pair, bond in found.bonds.items():
        assert_same(bond, expected.bonds[pair], str(pair))
    for mine, theirs in zip(found.functions, expected.functions, strict=True):
        for place, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert (a.mus, a.ns, a.ls, a.ms.tolist()) == (b.mus, b.ns, b.ls, b.ms.tolist()), place
            error = np.abs(a.ctildes - b.ctildes) / np.maximum(1.0, np.abs(b.ctildes))
            assert error.max(initial=0.0) <= 1e-13, place


def test_basis_in_the_order_of_pyace(ace, name) -> None:
    basis = ace.basis(name)
    expected = json.loads((ace.folder / f"basis_{name}.json").read_text())
    assert set(expected) == set(basis.elements)
    for element, functions in zip(basis.elements, basis.functions, strict=True):
        for place, (mine, theirs) in enumerate(zip(functions, expected[element], strict=True)):
            assert (mine.rank, list(mine.mus), list(mine.ns), list(mine.ls), list(mine.LS)) == tuple(
                theirs[key] for key in ("rank", "mus", "ns", "ls", "LS")
            ), place
            vectors = np.reshape(theirs["ms_combs"], (-1, mine.rank))
            assert mine.ms.tolist() == vectors.tolist(), place
            np.testing.assert_allclose(
                mine.weights, np.ravel(theirs["gen_cgs"]), rtol=0, atol=1e-14, err_msg=str(place)
            )
            np.testing.assert_array_equal(mine.coefficients, np.ravel(theirs["coeffs"]))


def test_isolated_energies_go_into_the_yace_file(ace) -> None:
    text = yace_text(to_products(ace.basis("AlNi_fs2"), {"Ni": -1.25}))
    assert parse_yace(text).isolated_energies == (0.0, -1.25)


def test_new_coefficients_keep_their_places(ace, name) -> None:
    basis = ace.basis(name)
    flat = np.array([c for functions in basis.functions for f in functions for c in f.coefficients])
    assert_same(basis.with_coefficients(flat), basis.configuration)
    values = np.arange(1.0, len(flat) + 1)
    again = make_basis(basis.with_coefficients(values))
    assert [c for functions in again.functions for f in functions for c in f.coefficients] == values.tolist()
    with pytest.raises(ValueError, match=str(len(flat))):
        basis.with_coefficients(np.append(values, 1.0))


def test_awkward_numbers_and_metadata_survive(ace) -> None:
    text = ace.pot("Al_SBessel.yaml").read_text()
    metadata = {
        "comment": "a: b # c, {x}",
        "empty": "",
        "number": "1e-5",
        "no": "No",
        "quote": 'it\'s "so"',
        "new": "é\nß",
    }
    lines = "\n".join(f"  {key}: {_quoted(value)}" for key, value in metadata.items())
    auxdata = "auxdata:\n  _int: {a: 3}\n  _double_arr: {b: [1e-300, 0.1, -2.5e+17]}\n  _string: {s: 'x, y: z'}\n"
    text = f"metadata:\n{lines}\n{auxdata}{_without_metadata(text)}"
    once = parse_yaml(text)
    assert dict(once.metadata) == metadata
    again = parse_yaml(yaml_text(once))
    assert_same(again, once)
    for value in (5e-324, 0.1, 1 / 3, -1.7976931348623157e308, 123456789012345678.0):
        changed = (*once.blocks[0].functions[0].coefficients[1:], value)
        spec = type(once.blocks[0].functions[0])(("Al", "Al"), (1,), (0,), (), changed)
        block = type(once.blocks[0])(("Al",), (spec,), once.blocks[0].embedding, once.blocks[0].bond)
        copy = parse_yaml(yaml_text(type(once)((block,), 0.1 + 0.2)))
        assert copy.spline_step == 0.1 + 0.2
        assert copy.blocks[0].functions[0].coefficients == changed


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).strip()


def test_functions_to_skip_are_kept_in_the_file_but_not_in_the_basis(ace) -> None:
    text = ace.pot("Al_SBessel.yaml").read_text()
    cut = text.replace("nr: [1], nl: [0]", "nr: [1], nl: [0], skip: true", 1)
    assert cut != text
    configuration = parse_yaml(cut)
    assert parse_yaml(yaml_text(configuration)).blocks[0].functions[0].skip
    assert len(make_basis(configuration).functions[0]) == len(ace.basis("Al_SBessel").functions[0]) - 1


# --- malformed files -------------------------------------------------------------------------------------------------


def sub(pattern: str, replacement: str, count: int = 1) -> Callable[[str], str]:
    """Return an edit of a file's text; it must change something."""

    def edit(text: str) -> str:
        changed = re.sub(pattern, replacement, text, count=count, flags=re.MULTILINE)
        assert changed != text, pattern
        return changed

    return edit


_RANK3 = r"(type: Al Al Al Al, nr: \[[^]]*\], nl: \[[^]]*\], )lint: \[[^]]*\]"

# edit, key that the message must name, word of the reason
YAML_CASES = {
    "empty": (lambda text: "", "document", "expected"),
    "truncated": (lambda text: text[: len(text) // 2], "", "YAML"),
    "not a mapping": (lambda text: "- 1\n- 2\n", "document", "expected keys"),
    "no species": (sub(r"^species:", "spezies:"), "species", "missing"),
    "species empty": (lambda text: text[: text.index("species:")] + "species: []\n", "species", "no blocks"),
    "species a number": (lambda text: text[: text.index("species:")] + "species: 3\n", "species", "list"),
    "no global": (sub(r"^global:", "globe:"), "global", "missing"),
    "step of zero": (sub(r"DeltaSplineBins: .*", "DeltaSplineBins: 0"), "DeltaSplineBins", "positive"),
    "step not finite": (sub(r"DeltaSplineBins: .*", "DeltaSplineBins: .inf"), "DeltaSplineBins", ""),
    "no rcut": (sub(r"rcutij:", "rcut:"), "rcutij", "missing"),
    "rcut text": (sub(r"rcutij: .*", "rcutij: far"), "rcutij", "number"),
    "rcut nan": (sub(r"rcutij: .*", "rcutij: nan"), "rcutij", "finite"),
    "rcut negative": (sub(r"rcutij: .*", "rcutij: -5"), "rcutij", "positive"),
    "nradmax a fraction": (sub(r"nradmaxi: .*", "nradmaxi: 2.5"), "nradmaxi", "whole"),
    "lmax negative": (sub(r"lmaxi: .*", "lmaxi: -1"), "lmaxi", "at least"),
    "unknown radial basis": (sub(r"radbase: .*", "radbase: Wavelet"), "radbase", "unknown"),
    "shape of radcoefficients": (
        sub(r"radcoefficients: .*", "radcoefficients: [[[1, 2]]]"),
        "radcoefficients",
        "expected",
    ),
    "ragged radcoefficients": (sub(r"radcoefficients: .*", "radcoefficients: [[1, 2], [3]]"), "radcoefficients", ""),
    "radcoefficients not finite": (
        sub(r"radcoefficients: \[\[\[[^,]*,", "radcoefficients: [[[.nan,"),
        "radcoefficients",
        "",
    ),
    "core-repulsion of three": (sub(r"core-repulsion: .*", "core-repulsion: [1, 2, 3]"), "core-repulsion", "3"),
    "unknown inner cutoff": (sub(r"inner_cutoff_type: .*", "inner_cutoff_type: soft"), "inner_cutoff_type", "unknown"),
    "unknown embedding": (sub(r"npoti: .*", "npoti: Tersoff"), "npoti", "unknown"),
    "embedding too short": (sub(r"^( *)parameters: .*", r"\1parameters: [1]"), "parameters", "expected"),
    "no densities": (sub(r"ndensityi: .*", "ndensityi: 0"), "ndensityi", "at least 1"),
    "no speciesblock": (sub(r"speciesblock:", "block:"), "speciesblock", "missing"),
    "nr too large": (sub(r"nr: \[1\]", "nr: [99]"), "nbody", "99"),
    "nr of zero": (sub(r"nr: \[1\]", "nr: [0]"), "nr", "at least 1"),
    "nr of text": (sub(r"nr: \[1\]", "nr: [one]"), "nr", "whole"),
    "nr not a list": (sub(r"nr: \[1\]", "nr: 1"), "nr", "list"),
    "nl too large": (sub(r"nl: \[0, 0\]", "nl: [9, 9]"), "nbody", "9"),
    "nl unequal at rank 2": (sub(r"nl: \[0, 0\]", "nl: [0, 1]"), "nl", ""),
    "nl too short": (sub(r"nl: \[0, 0\]", "nl: [0]"), "nl", "2"),
    "no lint": (sub(_RANK3, r"\1dummy: 0"), "lint", "missing"),
    "lint too short": (sub(_RANK3, r"\1lint: []"), "nl", ""),
    "lint breaks the triangle": (sub(_RANK3, r"\1lint: [7]"), "nl", ""),
    "c missing": (sub(r", c: ", ", d: "), "c", "missing"),
    "c too long": (sub(r", c: \[", ", c: [1, 1, 1, "), "nbody", "densities"),
    "c not finite": (sub(r", c: \[[^],]*", ", c: [.inf"), "c", ""),
    "type without centre": (sub(r"type: Al Al,", "type: Al,"), "type", "expected"),
    "type of another block": (sub(r"type: Al Al,", "type: Ni Al,"), "nbody", "belong"),
    "centre block not first": (sub(r"speciesblock: \"?Al\"?$", "speciesblock: Cu"), "species", ""),
    "nbody a number": (lambda text: re.sub(r"nbody:\n(?:      .*\n?)*", "nbody: 3\n", text, count=1), "nbody", "list"),
    "metadata a list": (
        lambda text: re.sub(r"\A", "metadata: [1, 2]\n", _without_metadata(text)),
        "metadata",
        "expected",
    ),
    "metadata nested": (lambda text: "metadata: {a: {b: c}}\n" + _without_metadata(text), "metadata", "text"),
    "auxdata a number": (lambda text: "auxdata: 3\n" + text, "auxdata", "expected"),
    "tab": (sub(r"^species:", "\tspecies:"), "", "YAML"),
}

YACE_CASES = {
    "empty": (lambda text: "", "document", "expected"),
    "truncated": (lambda text: text[: len(text) // 2], "", "YAML"),
    "no E0": (sub(r"^E0:.*\n", ""), "E0", "missing"),
    "E0 too short": (sub(r"^E0:.*", "E0: [0]"), "E0", "expected 2"),
    "E0 a number": (sub(r"^E0:.*", "E0: 0"), "E0", "list"),
    "no step": (sub(r"^deltaSplineBins:.*\n", ""), "deltaSplineBins", "missing"),
    "step negative": (sub(r"^deltaSplineBins:.*", "deltaSplineBins: -1"), "deltaSplineBins", "positive"),
    "same element twice": (sub(r"^elements:.*", "elements: [Al, Al]"), "elements", "different"),
    "a third element": (sub(r"^elements:.*", "elements: [Al, Ni, Co]"), "E0", "expected 3"),
    "no embedding": (sub(r"^  1: *\{ *ndensity", "  3: {ndensity"), "embeddings.1", "missing"),
    "unknown embedding": (sub(r"npoti: [A-Za-z]*", "npoti: Tersoff"), "npoti", "unknown"),
    "embedding too short": (sub(r"FS_parameters: \[[^]]*\]", "FS_parameters: [1]"), "FS_parameters", "expected"),
    "no bond": (sub(r"^  \[1, 0\]:", "  [5, 5]:"), "[1, 0]", "missing"),
    "bond of text": (sub(r"^  \[1, 0\]:.*", "  [1, 0]: strong"), "[1, 0]", "expected keys"),
    "no rcut": (sub(r"\brcut:", "cut:"), "rcut", "missing"),
    "dcut not finite": (sub(r"\bdcut: [^,}]*", "dcut: nan"), "dcut", "finite"),
    "unknown radial basis": (sub(r"radbasename: [A-Za-z]*", "radbasename: Wavelet"), "radbasename", "unknown"),
    "ACE.jl": (sub(r"radbasename: [A-Za-z]*", "radbasename: ACE.jl.base"), "radbasename", "not supported"),
    "shape of radcoefficients": (sub(r"nradbasemax: \d+", "nradbasemax: 2"), "radcoefficients", "expected"),
    "functions of nobody": (sub(r"^functions:", "funktions:"), "functions", "missing"),
    "wrong centre": (sub(r"mu0: 0, rank: 2", "mu0: 1, rank: 2"), "mu0", "expected 0"),
    "wrong rank": (sub(r"mu0: 0, rank: 2", "mu0: 0, rank: 3"), "mus", "expected 3"),
    "rank of zero": (sub(r"mu0: 0, rank: 2", "mu0: 0, rank: 0"), "rank", "at least 1"),
    "wrong count": (sub(r"num_ms_combs: 1,", "num_ms_combs: 4,"), "ms_combs", "expected 4"),
    "wrong ndensity": (sub(r"(rank: 2, )ndensity: 2", r"\1ndensity: 7"), "ndensity", ""),
    "unknown species": (sub(r"mus: \[0\]", "mus: [4]"), "mus", "unknown"),
    "ns too large": (sub(r"ns: \[1\]", "ns: [99]"), "ns", "99"),
    "ls too large": (sub(r"ls: \[0, 0\]", "ls: [9, 9]"), "ls", "9"),
    "m above l": (sub(r"ls: \[0, 0\], ms_combs: \[0, 0\]", "ls: [0, 0], ms_combs: [1, -1]"), "ms_combs", "larger"),
    "ctildes of text": (sub(r"ctildes: \[[^],]*", "ctildes: [x"), "ctildes", "number"),
}


def _without_metadata(text: str) -> str:
    return re.sub(r"\Ametadata:\n(?:  .*\n)*", "", text)


def _complaint(read: Callable[[str, str], object], text: str) -> str:
    with pytest.raises(ModelError) as caught:
        read(text, "folder/potential.file")
    return str(caught.value)


@pytest.mark.parametrize("case", YAML_CASES)
def test_malformed_yaml_potential(ace, case) -> None:
    edit, key, reason = YAML_CASES[case]
    message = _complaint(parse_yaml, edit(ace.pot("AlNi_fs2.yaml").read_text()))
    assert message.startswith("folder/potential.file: ")
    assert key in message, message
    assert reason in message, message


@pytest.mark.parametrize("case", YACE_CASES)
def test_malformed_yace_potential(ace, case) -> None:
    edit, key, reason = YACE_CASES[case]
    message = _complaint(parse_yace, edit(ace.pot("AlNi_fs2.yace").read_text()))
    assert message.startswith("folder/potential.file: ")
    assert key in message, message
    assert reason in message, message


@pytest.mark.parametrize("read", [read_yaml, read_yace, read_asi])
def test_files_that_cannot_be_read(tmp_path, read) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    for file in ("absent", "binary", "."):
        with pytest.raises(ModelError, match=re.escape(str(tmp_path / file))):
            read(tmp_path / file)


def test_reverse_pair_with_other_radial_functions_is_refused(ace) -> None:
    text = ace.pot("AlNi_fs2.yaml").read_text()
    start = text.index("speciesblock:", text.index("speciesblock: Ni Al"))
    changed = text[:start] + re.sub(r"rcutij: .*", "rcutij: 4.5", text[start:], count=1)
    message = _complaint(parse_yaml, changed)
    assert "speciesblock" in message
    assert "differ" in message


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros(4), "square"),
        (np.zeros((0, 0)), "square"),
        (np.eye(2, dtype=np.float32), "float64"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "finite"),
        (np.eye(2, dtype=complex), "float64"),
    ],
)
def test_malformed_active_set(tmp_path, matrix, reason) -> None:
    with open(tmp_path / "x.asi", "wb") as handle:
        np.savez(handle, Al=matrix)
    with pytest.raises(ModelError, match=rf"x\.asi: Al: .*{reason}"):
        read_asi(tmp_path / "x.asi")
    with pytest.raises(ModelError, match=rf"Al: .*{reason}"):
        write_asi({"Al": matrix}, tmp_path / "y.asi")
    assert not (tmp_path / "y.asi").exists()


def test_pickled_objects_are_no_active_set(tmp_path) -> None:
    with open(tmp_path / "objects.asi", "wb") as handle:
        np.savez(handle, Al=np.array([[{}]], dtype=object))
    with pytest.raises(ModelError, match=r"objects\.asi"):
        read_asi(tmp_path / "objects.asi")


def test_active_set_with_a_flipped_byte(ace, tmp_path) -> None:
    data = ace.pot("Al_SBessel.asi").read_bytes()
    (tmp_path / "x.asi").write_bytes(data[:5000] + bytes([data[5000] ^ 255]) + data[5001:])
    with pytest.raises(ModelError, match=r"x\.asi"):
        read_asi(tmp_path / "x.asi")


def test_active_set_of_another_potential(ace) -> None:
    potential = from_basis(ace.basis("AlNi_fs2"))
    matrices = read_asi(ace.pot("AlNi_fs2.asi"))
    nonlinear = read_asi(ace.pot("AlNi_fs2.asi.nonlinear"))
    for wrong, reason in (
        (read_asi(ace.pot("Al_SBessel.asi")), "the active set has Al"),
        (read_asi(ace.pot("AlNi_core_zbl.asi")), "functions"),
        ({**matrices, "Ni": nonlinear["Ni"]}, "linear for one"),
        ({}, "active set"),
    ):
        with pytest.raises(ModelError, match=reason):
            AceEvaluator(potential, wrong, threads=1)
    with pytest.raises(ModelError, match=r"\.yaml"):
        AceEvaluator(from_products(read_yace(ace.pot("AlNi_fs2.yace"))), matrices, threads=1)


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  - {type: Al Al, nr: [1, 2], c: [-1.5e-05, +2, .5]}\n  - {b: [], c: x}\nd: 1\n",
        "a:\n  - {b: [1,2], c: 3}\n  - {b: 'x, y: [', c: 3}\n  - {b: {c: 1}}\n  - {b: 1 }\n",
        "a: |\n  - {b: 1}\n  - {b: 2}\nc:\n  - {b: 1}\n",
        'a: "\n  - {b: 1}\n  x"\n',
        "- {b: 1, b: 2}\n- {b: -}\n- {b: é}\n- {b: 1 # no\n  }\n- {b: 1} # yes\n- {1: 2}\n",
        "- autopipe-line-0\n- {b: 1}\n",
    ],
)
def test_lines_that_are_read_apart_are_read_as_yaml_reads_them(text):
    parse = partial(yaml.load, Loader=yaml.BaseLoader)
    assert parse_lines(text, parse) == parse(text)
