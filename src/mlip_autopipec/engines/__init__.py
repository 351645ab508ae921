"""Doors to outside programs, each blind to the others."""
