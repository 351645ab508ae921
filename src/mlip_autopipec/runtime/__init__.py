"""How a process lives: serve loop, heartbeat, signals, child processes."""
