"""The four services as mains of a few lines; each is a daemon of `mlip_autopipec.daemons`."""
