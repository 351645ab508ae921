"""The ACE potential as pure numerics."""
