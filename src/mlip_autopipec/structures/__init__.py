"""Geometry of atomic structures: carving and sanity checks."""
