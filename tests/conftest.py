"""What all tests share: where the reference data lie, and how a missing engine is treated."""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
os.environ.setdefault("OMP_NUM_THREADS", "1")

_IN_CI = os.environ.get("CI") == "true"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say what `pytest -n 2` keeps together: a file, whose tests share fixtures, and all whole loops.

    These are several processes each: one at a time, beside the other tests.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "loops" if file.startswith("tests/flow/") else file

    return ByFile(config, log)


def missing(what: str) -> None:
    """A missing engine or data folder: an error in CI, a visible skip elsewhere."""
    if _IN_CI:
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data that lies beside the checkout (`AUTOPIPE_SHARED`)."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("AUTOPIPE_SHARED", root.parent / "shared"))
    if not folder.is_dir():
        missing(f"the data folder {folder} (AUTOPIPE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def python_ace() -> None:
    """python-ace, an extra that the parity tests need."""
    try:
        import pyace  # noqa: F401
    except ImportError:
        missing("python-ace (pip install 'mlip-autopipec[pacemaker]')")


@pytest.fixture(scope="session")
def pw_x() -> str:
    """Path of Quantum ESPRESSO's pw.x."""
    found = shutil.which("pw.x")
    if found is None:
        missing("pw.x (apt-get install quantum-espresso quantum-espresso-data)")
    return str(found)


@pytest.fixture(scope="session")
def gpaw() -> None:
    """GPAW, an extra that is compiled."""
    try:
        import gpaw.cgpaw  # noqa: F401
    except ImportError:
        missing("GPAW (scripts/test installs it)")


@pytest.fixture(scope="session")
def dscribe() -> None:
    """dscribe, with which SOAP is compared."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dscribe.ext  # noqa: F401
    except ImportError:
        missing("dscribe (pip install 'mlip-autopipec[dev]')")


@pytest.fixture(scope="session")
def mace() -> None:
    """mace-torch, an extra of a gigabyte."""
    if importlib.util.find_spec("mace") is None:
        missing("mace-torch (pip install 'mlip-autopipec[mace]')")
