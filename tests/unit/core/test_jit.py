"""The cache of compiled kernels: renewed by its own sources only, shared by processes, cleared of what is unused."""

import fcntl
import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import mlip_autopipec
from mlip_autopipec.core.compiled.jit import fingerprint, remove_unused

HOUSE = Path(mlip_autopipec.__file__).parent
KERNEL = """
from mlip_autopipec.core.compiled.jit import kernel

@kernel
def double(x: float) -> float:
    return 2.0 * x
"""


def test_fingerprint_follows_what_is_imported_and_nothing_else(tmp_path):
    def prints(**sources):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "ace" / "inner").mkdir(parents=True)
        for name, text in sources.items():
            (folder / "ace" / ("inner" if name == "second" else "") / f"{name}.py").write_text(text)
        return fingerprint(str(folder / "ace" / "kernel.py"), str(folder))

    kernel = "from mlip_autopipec.ace.first import x\n"
    first = "from mlip_autopipec.ace.inner.second import y\n"
    before = prints(kernel=kernel, first=first, second="y = 1\n", reader="z = 1\n")
    assert prints(kernel=kernel, first=first, second="y = 1\n", reader="z = 2\n") == before
    assert prints(kernel=kernel, first=first, second="y = 2\n", reader="z = 1\n") != before
    assert prints(kernel=kernel + "# more\n", first=first, second="y = 1\n", reader="z = 1\n") != before


def test_editing_a_reader_recompiles_nothing(tmp_path):
    sources = {path.relative_to(HOUSE): path.read_text() for path in HOUSE.rglob("*.py")}
    kernels = [path for path, text in sources.items() if "\n@kernel\n" in text]
    assert len(kernels) >= 5
    readers = (
        "interfaces.py",
        "yaml_reading.py",
        "yace_writing.py",
        "generator.py",
        "calculator.py",
        "fitting.py",
        "maxvol.py",
    )
    assert {path.name for path in sources}.issuperset(readers)
    for path, text in sources.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + ("# edited\n" if path.name in readers else ""))
    for path in kernels:
        assert fingerprint(str(tmp_path / path), str(tmp_path)) == fingerprint(str(HOUSE / path))


def _call(folder, start, numbers):
    sys.path.insert(0, str(folder))
    start.wait()
    double = importlib.import_module("one_kernel").double
    stats = double.stats if double(21.0) == 42.0 else None
    numbers.put((sum(stats.cache_hits.values()), sum(stats.cache_misses.values())))


def test_processes_that_start_at_once_compile_once(tmp_path):
    (tmp_path / "one_kernel.py").write_text(KERNEL)
    context = multiprocessing.get_context("spawn")
    start, numbers = context.Barrier(3), context.Queue()
    children = [context.Process(target=_call, args=(tmp_path, start, numbers)) for _ in range(3)]
    for child in children:
        child.start()
    found = [numbers.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert sorted(found) == [(0, 1), (1, 0), (1, 0)]
    assert len(list(tmp_path.glob("__pycache__/kernels-*/*.nbc"))) == 1


def test_what_nobody_used_is_removed_unless_someone_compiles_there(tmp_path):
    for name in ("kernels-old", "kernels-new", "kernels-busy", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        os.utime(tmp_path / name, (1000.0, 5000.0 if name == "kernels-new" else 1000.0))
    with open(tmp_path / "kernels-busy" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_unused(str(tmp_path), before=2000.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-busy", "kernels-new", "other"]
