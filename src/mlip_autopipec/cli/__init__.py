"""The command line `autopipe`."""
