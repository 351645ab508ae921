"""Read-only views of a run: never writes, never kills."""
