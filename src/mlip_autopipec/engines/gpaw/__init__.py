"""GPAW as a labeller: plane-wave PAW from PyPI, with PBE datasets for 83 elements."""
