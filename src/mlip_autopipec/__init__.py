"""MLIP-AutoPipe: grows a machine-learning interatomic potential while molecular dynamics uses it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mlip-autopipec")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
