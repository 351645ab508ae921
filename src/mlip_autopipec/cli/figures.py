"""Can a figure be written? Asked before anything is computed for it."""

from __future__ import annotations

from pathlib import Path

import click

from mlip_autopipec.core.errors import ConfigError


def require_matplotlib(figure: Path) -> None:
    """Refuse a figure that cannot be written.

    Raises
    ------
    ConfigError
        matplotlib is missing.
    click.UsageError
        It does not know the file's kind.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a plot needs matplotlib", "pip install 'mlip-autopipec[plot]'") from error
    known = sorted(Figure().canvas.get_supported_filetypes())
    if figure.suffix.removeprefix(".") not in known:
        raise click.UsageError(f"{figure}: its name must end in one of {', '.join('.' + kind for kind in known)}")
