"""Molecular dynamics by ASE with any calculator: for exploration, where no frame is trusted and none is trained on."""
