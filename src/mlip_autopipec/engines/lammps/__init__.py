"""Door to LAMMPS through its Python library."""
