"""Physical properties of crystals and melts by any calculator of ASE; knows nothing of versions or runs."""
