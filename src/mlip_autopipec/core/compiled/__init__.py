"""What compiled kernels are made of: the compiler's cache, vectors of eight numbers, threads. Knows no physics."""
