"""Compiles kernels with numba and keeps the machine code on disk, safely for many processes at once.

numba's own cache looks only at the file of the outermost function, and two processes of different CPUs on one shared
home directory may overwrite each other's entries. Ours lives in a folder whose name is a hash of the CPU and of the
sources of the kernel's module and all that it imports from the rooms of kernels; one process compiles while the others
wait for its result. Folders that nobody has used for a month are removed when something is compiled.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])
# Sums may be reordered and multiply-adds fused, but infinities and NaN stay what they are.
_FAST_FLAGS = {"contract", "reassoc", "nsz"}
# Kernels make no arrays, so references need no counting ("_nrt"), which would cost two atomic operations per array.
_OPTIONS = {"fastmath": _FAST_FLAGS, "nogil": True, "error_model": "numpy", "_nrt": False}

_PACKAGE, _HERE = __package__.split(".", 1)
# The rest of the house holds no code of kernels, and changes more often.
_IMPORT = re.compile(rf"^from {_PACKAGE}\.((?:ace|sampling|{re.escape(_HERE)})\.[\w.]+) import ", re.MULTILINE)
_HOUSE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_PREFIX = "kernels-"
_UNUSED_S = 30 * 86400.0


def inline(function: _Function) -> _Function:
    """Compile a helper that kernels call; the machine code is merged into theirs."""
    return cast(_Function, numba.njit(function, forceinline=True, **_OPTIONS))


def splice(function: _Function) -> _Function:
    """Make a helper part of its caller before compilation: for what is called once, where `inline` compiles twice."""
    return cast(_Function, numba.njit(function, inline="always", **_OPTIONS))


def kernel(function: _Function) -> _Function:
    """Compile a function that Python calls; its machine code is cached on disk. Releases the GIL."""
    dispatcher = numba.njit(function, **_OPTIONS)
    dispatcher._cache = _SharedCache(dispatcher.py_func)
    return cast(_Function, dispatcher)


def instruction(function: Callable[..., Any]) -> Any:
    """Make `function` write the code of its calls in kernels by hand (`numba.extending.intrinsic`)."""
    return intrinsic(function)


@lru_cache
def fingerprint(file: str, house: str = _HOUSE) -> str:
    """Return a short name for the sources that the kernels in `file` are made of, numba and the CPU."""
    digest = hashlib.sha256(f"{numba.__version__} {llvm.llvm_version_info} {cpu_name()} {cpu_features()}".encode())
    for _, source in sorted(_sources(file, house).items()):
        digest.update(source.encode())
    return digest.hexdigest()[:16]


def _sources(file: str, house: str) -> dict[str, str]:
    """Return path -> text of a module and of all modules with kernels that it imports, directly or not."""
    waiting, found = [os.path.relpath(file, house)], dict[str, str]()
    while waiting:
        path = waiting.pop()
        if path not in found:
            with open(os.path.join(house, path), encoding="utf-8") as handle:
                found[path] = handle.read()
            waiting += [module.replace(".", os.sep) + ".py" for module in _IMPORT.findall(found[path])]
    return found


def cpu_name() -> str:
    """Return the CPU that kernels are compiled for (NUMBA_CPU_NAME overrides the host's)."""
    return str(config.CPU_NAME or llvm.get_host_cpu_name())


@lru_cache(maxsize=1)
def cpu_features() -> str:
    """Return the features that kernels are compiled for, like "+avx2,+fma" (NUMBA_CPU_FEATURES overrides)."""
    if config.CPU_FEATURES is not None:
        return str(config.CPU_FEATURES)
    return str(llvm.get_host_cpu_features().flatten()) if config.CPU_NAME is None else ""


def _cache_root(py_file: str, fallback: str) -> str:
    if config.CACHE_DIR:
        return str(config.CACHE_DIR)
    beside = os.path.join(os.path.dirname(py_file), "__pycache__")
    with contextlib.suppress(OSError):
        os.makedirs(beside, exist_ok=True)
    return beside if os.access(beside, os.W_OK) else fallback


class _Locator(UserWideCacheLocator):
    """In NUMBA_CACHE_DIR if set, in `__pycache__` beside the sources, or in the user's cache folder."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = os.path.join(
            _cache_root(py_file, super().get_cache_path()), f"{_PREFIX}{fingerprint(py_file)}"
        )

    def get_source_stamp(self) -> str:
        return fingerprint(self._py_file)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _SharedCache(FunctionCache):
    """Holds a file lock from a miss until the result is saved, so that a kernel is compiled once per machine."""

    _impl_class = _Implementation
    _lock: Any = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(self.cache_path)
            return found
        # Without a lock (a file system that has none) the kernel is compiled more than once, which is only slow.
        with contextlib.suppress(OSError):
            self._impl.locator.ensure_cache_path()
            self._lock = open(os.path.join(self.cache_path, "lock"), "a")  # noqa: SIM115  held until saved
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        found = super().load_overload(sig, target_context)
        if found is not None:
            self._release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        finally:
            self._release()
        remove_unused(os.path.dirname(self.cache_path), time.time() - _UNUSED_S)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def remove_unused(root: str, before: float) -> None:
    """Remove kernel folders in `root` last used `before` that time (s, as file times), unless someone compiles there.

    A process that has loaded a kernel does not need its file any more.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(root):
            if entry.name.startswith(_PREFIX) and entry.stat().st_mtime < before:
                with contextlib.suppress(OSError), open(os.path.join(entry.path, "lock"), "a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path, ignore_errors=True)
