"""MACE (Batatia et al. 2022, doi:10.48550/arXiv.2206.07697) as a surrogate; only through this door."""
