"""The truth on disk: queue, leases, dataset, potential registry."""
