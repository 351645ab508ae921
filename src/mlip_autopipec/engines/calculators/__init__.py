"""Any calculator of ASE as a labeller, named by its dotted path."""
