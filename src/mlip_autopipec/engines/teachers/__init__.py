"""Analytic labellers: always named as what they are, never a substitute for DFT."""
