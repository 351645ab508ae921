"""SCF iterations from the density of a neighbour (node.espresso.remembered_densities) against those from free atoms."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.engines.espresso import neighbours
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

CASES = {
    "Al4": (bulk("Al", cubic=True), {"pseudopotentials": {"Al": "Al.pz-vbc.UPF"}, "ecutwfc_ry": 12, "kspacing": 1.2}),
    "Si2": (bulk("Si"), {"pseudopotentials": {"Si": "Si.pz-vbc.UPF"}, "ecutwfc_ry": 16, "kspacing": 1.2}),
    "Si8": (bulk("Si", cubic=True), {"pseudopotentials": {"Si": "Si.pz-vbc.UPF"}, "ecutwfc_ry": 12, "kspacing": 2.0}),
}
MOVED_A = (0.005, 0.02, 0.05, 0.1, 0.2)


def measure(name: str, start: Atoms, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each displacement of all atoms (A, root mean square), iterations from atoms and from a neighbour."""
    settings = EspressoSettings(**given)
    parent = start.copy()
    parent.rattle(0.1, seed=1)
    rows = []
    for moved in MOVED_A:
        child = parent.copy()
        shift = np.random.default_rng(7).normal(size=(len(parent), 3))
        child.positions += moved * shift / np.sqrt((shift**2).sum(axis=1).mean())
        remembering = EspressoLabeller(settings, EspressoNode(remembered_densities=1))
        with tempfile.TemporaryDirectory() as folder:
            remembering.label(parent, Path(folder))
            near = remembering.label(child, Path(folder))
            plain = EspressoLabeller(settings).label(child, Path(folder))
        rows.append(
            {
                "case": name,
                "moved_a": moved,
                "from_atoms": plain.info["scf_iterations"],
                "from_neighbour": near.info["scf_iterations"],
                "energy_mev": 1e3 * abs(near.energy - plain.energy),
                "force_ev_a": float(np.abs(near.forces - plain.forces).max()),
            }
        )
    return rows


@click.command()
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Only this one; repeatable.")
@click.option("--json", "as_json", is_flag=True)
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Measure what the density of a neighbour saves, by how far the atoms have moved."""
    neighbours.NEAR_A = 9.0  # what lies beyond the limit is to be seen as well
    rows = [row for name in names or CASES for row in measure(name, *CASES[name])]
    if as_json:
        click.echo(json.dumps(rows))
        return
    columns = ("case", "moved_a", "from_atoms", "from_neighbour", "energy_mev", "force_ev_a")
    print_table("SCF iterations", columns, ([row[column] for column in columns] for row in rows))


if __name__ == "__main__":
    main()
