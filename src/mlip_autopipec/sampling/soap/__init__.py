"""Smooth overlap of atomic positions: power spectra of environments (Bartok et al., doi:10.1103/PhysRevB.87.184115)."""
