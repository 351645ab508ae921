"""From a dotted path and arguments to a calculator; every mistake is refused with the key that holds it."""

from __future__ import annotations

import difflib
import importlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Final

from ase.calculators.calculator import BaseCalculator, Calculator, FileIOCalculator, OldShellProfile
from ase.calculators.genericfileio import GenericFileIOCalculator

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.calculators.settings import AseSettings

_FILE_BASED: Final = (FileIOCalculator, GenericFileIOCalculator)
# Keys of ASE's base classes that the labeller itself decides.
_OURS: Final = frozenset({"atoms", "directory", "label", "restart", "ignore_bad_restart_file"})


def load_factory(settings: AseSettings) -> Callable[..., Any]:
    """Return what `labeller.calculator` names.

    Raises
    ------
    ConfigError
        There is no such module or name, it does not import, or it cannot be called.
    """
    path = settings.calculator
    module, _, name = path.rpartition(".")
    try:
        loaded = importlib.import_module(module)
    # A module may fail to import in any way, e.g. with OSError for a missing library.
    except Exception as error:
        raise ConfigError(
            f"labeller.calculator: {path!r}: {module} cannot be imported: {type(error).__name__}: {error}",
            "correct the path, or install the package in this environment, on every node that labels",
        ) from error
    if not hasattr(loaded, name):
        close = difflib.get_close_matches(name, dir(loaded), n=1)
        raise ConfigError(
            f"labeller.calculator: {path!r}: {module} has no {name}",
            f"did you mean {module}.{close[0]}?" if close else "correct the path",
        )
    factory = getattr(loaded, name)
    if not callable(factory):
        raise ConfigError(f"labeller.calculator: {path!r} is no class or function", "name what makes a calculator")
    return factory  # type: ignore[no-any-return]


def make_calculator(factory: Callable[..., Any], settings: AseSettings, tether: Sequence[str] = ()) -> Any:
    """Return a calculator that has forces and the wanted energy.

    Parameters
    ----------
    tether
        Command put before the program of a calculator that starts one, so that it dies with this process.

    Raises
    ------
    ConfigError
        The class refuses its arguments, or does not compute what a label needs.
    """
    path, kwargs = settings.calculator, settings.kwargs
    if ours := sorted(_OURS & set(kwargs)):
        raise ConfigError(f"labeller.kwargs.{ours[0]}: is set by the program", "remove it")
    _refuse_ignored(factory, settings)
    try:
        calculator = factory(**kwargs)
    # Classes refuse arguments in any way they like.
    except Exception as error:
        raise ConfigError(
            f"labeller.kwargs: {path} refuses {_shown(kwargs)}: {type(error).__name__}: {error}",
            "correct its arguments; Python's help() of it shows what it takes",
        ) from error
    _check_properties(calculator, settings)
    if tether and isinstance(calculator, _FILE_BASED):
        _tie(calculator, tether)
    return calculator


def is_file_based(calculator: Any) -> bool:
    """True for a calculator that starts a program in a folder, where it may find leftovers."""
    return isinstance(calculator, _FILE_BASED)


def has(calculator: Any, name: str) -> bool:
    """True if the calculator says that it computes this property."""
    return name in getattr(calculator, "implemented_properties", ())


def _refuse_ignored(factory: Any, settings: AseSettings) -> None:
    """Refuse an argument that a class of ASE would take without a word and never look at."""
    known = getattr(factory, "default_parameters", None)
    is_plain = isinstance(factory, type) and issubclass(factory, Calculator) and not issubclass(factory, _FILE_BASED)
    if not (is_plain and known and factory.__module__.startswith("ase.")):
        return
    code = factory.__init__.__code__
    named = {*known, *code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]} - _OURS - {"kwargs"}
    for key in settings.kwargs:
        if key not in named:
            close = difflib.get_close_matches(key, sorted(named), n=1)
            raise ConfigError(
                f"labeller.kwargs.{key}: {settings.calculator} does not know it",
                f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(sorted(named))}",
            )


def _check_properties(calculator: Any, settings: AseSettings) -> None:
    path = settings.calculator
    if not (isinstance(calculator, BaseCalculator) or hasattr(calculator, "calculate")):
        raise ConfigError(
            f"labeller.calculator: {path} makes a {type(calculator).__name__}, which is no calculator of ASE",
            "name a class that derives from ase.calculators.calculator.BaseCalculator",
        )
    if not has(calculator, "forces"):
        raise ConfigError(f"labeller.calculator: {path} computes no forces", "use another calculator")
    if not has(calculator, settings.energy):
        if settings.energy == "free_energy" and has(calculator, "energy"):
            raise ConfigError(
                f"labeller.energy: {path} has no free_energy",
                "if its forces are derivatives of its energy (no smearing, or no extrapolation of it): energy: energy",
            )
        raise ConfigError(f"labeller.energy: {path} computes no {settings.energy}", "use another calculator")


def _tie(calculator: Any, tether: Sequence[str]) -> None:
    """Put the tether before the program's command."""
    profile = calculator.profile
    if isinstance(profile, OldShellProfile):
        # ASE hands it to a shell, which would stay between this process and the program. Of several commands in a row
        # only a shell that runs them can be tied.
        several = any(sign in profile.command for sign in ";&|()`\n")
        tied = f"sh -c {shlex.quote(profile.command)}" if several else f"env {profile.command}"
        profile.command = f"exec {shlex.join(tether)} {tied}"
    elif isinstance(getattr(profile, "command", None), str):
        profile.command = shlex.join([*tether, *shlex.split(profile.command)])


def _shown(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in kwargs.items())[:200] or "no arguments"
