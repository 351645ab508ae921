"""MD as a readable LAMMPS input: what an external LAMMPS runs, block by block, and what a user can run by hand.

The commands are those that the library is given, in the same order; they need a LAMMPS with ML-PACE.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ase import Atoms

from mlip_autopipec.core.files import write_text
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import element_masses, leg_commands, start_commands
from mlip_autopipec.engines.lammps.native import NativePotential, pair_commands, watch_commands
from mlip_autopipec.engines.lammps.schedule import Leg
from mlip_autopipec.engines.lammps.settings import MDSettings, density_commands, velocity_command
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import VELOCITY

DATA, INPUT, GAMMA, LOG, END = "start.data", "in.lammps", "gamma.txt", "log.lammps", "end"
_COLUMNS: Final = "id type x y z vx vy vz fx fy fz"
# All digits of a double, so that what is read back is what LAMMPS had.
_DIGITS: Final = "%.17g"


@dataclass(frozen=True)
class Block:
    """Steps that LAMMPS makes in one go, within one leg of the schedule.

    Attributes
    ----------
    source : file that the state comes from: a restart, or the data file
    begin, steps : step number at the beginning, and how many to make; 0 only looks
    seed : of a Langevin thermostat
    draw : temperature (K) and seed of new velocities, None to keep those of `source`
    """

    source: str
    begin: int
    steps: int
    leg: Leg
    seed: int
    draw: tuple[float, int] | None = None


@dataclass(frozen=True)
class Watch:
    """How closely MD is watched: steps between two looks at gamma, threshold, steps between frames of the dump."""

    gamma_every: int
    halt_above: float
    dump_every: int = 1000

    @property
    def frames_every(self) -> int:
        """Steps between frames, so that each of them was looked at."""
        return self.gamma_every * max(1, round(self.dump_every / self.gamma_every))


def block_commands(
    block: Block, origin: Origin, settings: MDSettings, potential: NativePotential, watch: Watch
) -> list[str]:
    """Return one block: state, potential, ensemble, watch, run, end state in `end.restart` and `end.dump`."""
    fresh = block.source == DATA
    box = origin.box
    lines = ["# the state"]
    lines += [*start_commands(box), f"read_data {DATA}"] if fresh else [f"read_restart {block.source}"]
    lines += ["", "# the potential", *pair_commands(potential, origin.elements)]
    lines += [f"neighbor {settings.skin!r} bin", "neigh_modify every 1 delay 0 check yes"]
    lines += ["", f"# {settings.ensemble}, time in ps", f"timestep {settings.timestep_fs / 1000.0!r}"]
    lines += leg_commands(settings, origin, block.leg, block.seed)
    if box.dimension == 2:
        lines.append("fix plane all enforce2d")
    if block.draw is not None:
        lines.append(velocity_command(*block.draw, atoms=None))
    return [*lines, *_watch_lines(settings, potential, watch), *_run_lines(block, watch)]


def _watch_lines(settings: MDSettings, potential: NativePotential, watch: Watch) -> list[str]:
    grade, worst, record, *halt = watch_commands(potential, watch.gamma_every, watch.halt_above)
    virial = " ".join(f"c_virial[{k}]" for k in range(1, 7))
    return [
        "",
        f"# extrapolation grade gamma of every atom: MD ends at the first looked-at step above {watch.halt_above:g}",
        "compute tags all property/atom id",
        grade,
        worst,
        f'{record} append {GAMMA} format " {_DIGITS}"',
        *halt,
        *density_commands(settings),
        "",
        "compute virial all pressure NULL virial",
        f"thermo_style custom step temp pe press vol density {virial}",
        f'thermo_modify format float "{_DIGITS}"',
        f"thermo {watch.gamma_every}",
        f"dump frames all custom {watch.frames_every} frames.dump {_COLUMNS} f_grade",
        f'dump_modify frames sort id append yes format float "{_DIGITS}"',
    ]


def _run_lines(block: Block, watch: Watch) -> list[str]:
    threshold = f"{min(watch.halt_above, 1e300)!r}"
    end = f"write_dump all custom {END}.dump {_COLUMNS}"
    digits = f'modify sort id format float "{_DIGITS}"'
    looked = f"$(step%{watch.gamma_every}) == 0"
    return [
        "",
        "# look at gamma before the first step, then go",
        f"run 0 post no{block.leg.window}",
        f'if "{looked} && $(f_record[2]) > {threshold}" then "jump SELF end_{block.begin}"',
        *([f"run {block.steps} post no{block.leg.window}"] if block.steps else []),
        f"label end_{block.begin}",
        # gamma belongs to the steps on which it was looked at.
        f'if "{looked}" then "{end} f_grade {digits}" else "{end} {digits}"'.replace(f'"{_DIGITS}"', _DIGITS),
        f"write_restart {END}.restart",
    ]


def whole_script(
    origin: Origin, settings: MDSettings, potential: NativePotential, watch: Watch, steps: int, *, draw: bool
) -> str:
    """Return the input of a whole walker, from its start structure through all legs of its schedule.

    Parameters
    ----------
    steps
        MD steps of the walker.
    draw
        The start structure has no velocities.
    """
    lines = [
        f"# MLIP-AutoPipe: {settings.ensemble}, {steps} steps; by hand, in this folder: lmp -in {INPUT}",
        "# It needs a LAMMPS with ML-PACE (pair_style pace/extrapolation). It ends where gamma is above the threshold.",
    ]
    if settings.monte_carlo is not None:
        lines.append("# The walker also makes Monte Carlo moves between its runs, which are not in this file.")
    course, source = settings.course(), DATA
    for leg in course.legs:
        if leg.begin >= steps:
            break
        until = steps if leg.end is None else min(steps, leg.end)
        # A leg's thermostat goes on from the last one's state by way of a restart.
        velocities = (leg.first.temperature, settings.seed) if draw and source == DATA else None
        block = Block(source, leg.begin, until - leg.begin, leg, settings.seed + leg.number, velocities)
        lines += ["", *block_commands(block, origin, settings, potential, watch)]
        source = f"{END}.restart"
        if until < steps:
            lines += [f'if "$(step) < {until}" then quit', "clear"]
    return "\n".join(lines) + "\n"


def data_file(origin: Origin, atoms: Atoms) -> str:
    """Return a LAMMPS data file of `atoms`, with their velocities if they have some."""
    box = origin.box
    low, high, (xy, xz, yz) = box.region(atoms)
    kind = {element: i + 1 for i, element in enumerate(origin.elements)}
    lines = ["# MLIP-AutoPipe: start structure", "", f"{len(atoms)} atoms", f"{len(origin.elements)} atom types", ""]
    lines += [f"{low[k]!s} {high[k]!s} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    lines += [f"{xy!s} {xz!s} {yz!s} xy xz yz", "", "Masses", ""]
    masses = element_masses(atoms, origin.elements)
    lines += [f"{i + 1} {m!r} # {e}" for i, (m, e) in enumerate(zip(masses, origin.elements, strict=True))]
    lines += ["", "Atoms # atomic", ""]
    rows = zip(atoms.get_chemical_symbols(), box.to_lammps(atoms.positions).tolist(), strict=True)
    lines += [f"{i + 1} {kind[s]} {x!r} {y!r} {z!r}" for i, (s, (x, y, z)) in enumerate(rows)]
    if atoms.has("momenta"):
        velocities = (box.turn(atoms.get_velocities()) * VELOCITY).tolist()
        lines += ["", "Velocities", "", *(f"{i + 1} {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(velocities))]
    return "\n".join(lines) + "\n"


def write_whole_script(
    folder: Path, atoms: Atoms, settings: MDSettings, potential: NativePotential, watch: Watch, steps: int
) -> None:
    """Write `in.lammps` and `start.data` into `folder`, for a user to run by hand."""
    origin = Origin(tuple(potential.elements), BoxMap.of(atoms, settings.dimension))
    write_text(folder / DATA, data_file(origin, atoms))
    text = whole_script(origin, settings, potential, watch, steps, draw=not atoms.has("momenta"))
    write_text(folder / INPUT, text)
