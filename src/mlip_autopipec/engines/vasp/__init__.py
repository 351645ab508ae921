"""VASP as a labeller: its files are written and read through ASE."""
