"""Conventions, errors, ids, files, clock, events and the protocols that the other rooms share."""
