"""Door to python-ace (pacemaker); the only place that imports `pyace`."""
