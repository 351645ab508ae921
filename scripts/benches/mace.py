"""MACE in exploration: atoms x MD steps per second, one by one through ASE, batched, and by torch-sim, CPU and GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms, units
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parent / "mace"))

from models import SIZES, write_model

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.engines.dynamics.batch import LangevinBatch
from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import Conditions, Track
from mlip_autopipec.engines.mace.batch import MaceBatch
from mlip_autopipec.engines.mace.calculator import load_mace

# The newest for Python 3.11, with what it imports and the environment has not; it is for this comparison only.
TORCH_SIM = ("torch-sim-atomistic==0.3.0", "vesin-torch", "tables", "numexpr", "blosc2", "ndindex", "py-cpuinfo")
TEMPERATURE, TIMESTEP_FS = 300.0, 2.0
ASE, OURS, THEIRS = "ASE, one by one", "batched", "torch-sim"


def crystal(atoms: int) -> Atoms:
    """Return a copper crystal of about as many atoms, of 4 at least."""
    n = max(1, round((atoms / 4) ** (1 / 3)))
    found = bulk("Cu", a=3.61, cubic=True) * (n, n, max(1, round(atoms / (4 * n * n))))
    return Atoms(found.numbers, positions=found.positions, cell=found.cell, pbc=True)


class Case:
    """One device and one size of structures: who moves how many trajectories, and the best speed of each."""

    def __init__(self, model: Path, device: str, atoms: Atoms, batch: int, steps: int, torch_sim: bool) -> None:
        self.device, self.atoms, self.steps = device, atoms, steps
        self.calculator = load_mace(str(model), Path(), device=device, dtype="float32")
        self.runs: dict[tuple[str, int], Callable[[int, int], float]] = {(ASE, 1): self.ase, (OURS, batch): self.ours}
        if torch_sim:
            self.runs[THEIRS, batch] = self.theirs
        self.best = dict.fromkeys(self.runs, 0.0)
        for (_, n), run in self.runs.items():
            run(n, 2)  # kernels are chosen and memory is taken at the first steps

    def turn(self) -> None:
        for (who, n), run in self.runs.items():
            self.best[who, n] = max(self.best[who, n], n * len(self.atoms) * self.steps / run(n, self.steps))

    def clock(self) -> float:
        """Return s: of the processor where it does the work, which other programs disturb less; else of the wall."""
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def tracks(self, n: int, steps: int, root: str) -> list[Track]:
        folders = [Path(root) / str(k) for k in range(n)]
        for folder in folders:
            folder.mkdir()
        return [
            Track(self.atoms, Conditions(TEMPERATURE, None, steps, steps, TIMESTEP_FS, k), folder)
            for k, folder in enumerate(folders)
        ]

    def ase(self, n: int, steps: int) -> float:
        with tempfile.TemporaryDirectory() as root:
            tracks, begin = self.tracks(n, steps, root), self.clock()
            for track in tracks:
                LangevinRun(track, self.calculator).run()
            return self.clock() - begin

    def ours(self, n: int, steps: int) -> float:
        with tempfile.TemporaryDirectory() as root:
            tracks, begin = self.tracks(n, steps, root), self.clock()
            LangevinBatch(tracks, MaceBatch(self.calculator)).run()
            return self.clock() - begin

    def theirs(self, n: int, steps: int) -> float:
        import torch
        import torch_sim as ts
        from torch_sim.models.mace import MaceModel

        model = MaceModel(
            self.calculator.models[0], device=self.calculator.device, dtype=torch.float32, compute_stress=False
        )
        dt = torch.tensor(TIMESTEP_FS * units.fs, dtype=torch.float32, device=model.device)
        kt = torch.tensor(TEMPERATURE * units.kB, dtype=torch.float32, device=model.device)
        begin, update = ts.nvt_langevin(model, dt=dt, kT=kt, seed=1)
        at = torch.tensor(np.concatenate([self.atoms.positions] * n), dtype=torch.float32, device=model.device)
        cell = torch.tensor(self.atoms.cell.array.T, dtype=torch.float32, device=model.device)
        state = ts.SimState(
            positions=at, cell=cell.repeat(n, 1, 1), pbc=True,
            masses=torch.full((len(at),), 63.546, dtype=torch.float32, device=model.device),
            atomic_numbers=torch.full((len(at),), 29, device=model.device),
            system_idx=torch.arange(n, device=model.device).repeat_interleave(len(self.atoms)),
        )  # fmt: skip
        start = self.clock()
        state = begin(state)
        for _ in range(steps):
            state = update(state)
        return self.clock() - start

    def rows(self) -> list[dict[str, Any]]:
        alone = self.best[ASE, 1]
        return [
            {
                "device": self.device, "atoms": len(self.atoms), "moved by": who, "at once": n,
                "atoms x steps per s": speed, "to one by one": speed / alone,
            }
            for (who, n), speed in self.best.items()
        ]  # fmt: skip


def add_torch_sim() -> None:
    """Make torch-sim importable; installed once, beside the environment's own packages."""
    folder = Path(sys.prefix) / "torch-sim"
    if not (folder / "torch_sim").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *TORCH_SIM]
        subprocess.run(command, check=True, stdout=sys.stderr)
    sys.path.append(str(folder))


def devices() -> list[str]:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option(
    "--model", default="medium", show_default=True, help="A file, or small, medium: as large, random weights."
)
@click.option("--atoms", default="4,32", show_default=True, help="Atoms of a structure.")
@click.option("--batch", default="cpu=4,cuda=32", show_default=True, help="Trajectories at once, by device.")
@click.option("--steps", default="cpu=5,cuda=100", show_default=True, help="MD steps of each, by device.")
@click.option("--rounds", default=2, show_default=True, help="How often all are repeated in turns; the best counts.")
@click.option("--torch-sim/--no-torch-sim", default=True, show_default=True)
def main(
    as_json: bool, model: str, atoms: str, batch: str, steps: str, rounds: int, torch_sim: bool
) -> None:  # fmt: skip
    """Move copper at 300 K; float32."""
    warnings.simplefilter("ignore")
    if torch_sim:
        add_torch_sim()
    at_once, lengths = (dict(pair.split("=") for pair in text.split(",")) for text in (batch, steps))
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "random.model", model) if model in SIZES else Path(model).resolve()
        cases = [
            Case(path, device, crystal(int(n)), int(at_once[device]), int(lengths[device]), torch_sim)
            for device in devices()
            for n in atoms.split(",")
        ]
        for _ in range(rounds):
            for case in cases:
                case.turn()
    rows = [row for case in cases for row in case.rows()]
    if as_json:
        print(json.dumps({"model": model, "rows": rows}))
        return
    title = f"MACE {model}, float32, Cu at {TEMPERATURE:g} K and constant volume; a CPU's seconds are those of one core"
    print_table(title, tuple(rows[0]), (tuple(row.values()) for row in rows))


if __name__ == "__main__":
    main()
