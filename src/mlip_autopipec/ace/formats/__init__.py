"""Files that pacemaker, python-ace and LAMMPS use: `.yaml` (B-basis), `.yace` (C-tilde), `.asi` (active sets)."""
