"""How GPAW is compiled: serially, with gcc alone. Its BLAS is scipy's, its LDA, PBE, RPBE and revPBE are its own.

GPAW's setup executes this file if the environment's GPAW_CONFIG names it. Whoever has MPI, libxc or FFTW may compile
GPAW with them: labels do not change.
"""

compiler = "gcc"
mpi = False
noblas = True
nolibxc = True
