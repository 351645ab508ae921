"""Door to Quantum ESPRESSO."""
