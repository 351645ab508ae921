"""A run directory from a composition or a crystal alone: the plan, the seeds, a short `autopipe.yaml`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import click

from mlip_autopipec.cli.heldout import emt_heldout
from mlip_autopipec.config import Config, load_in_force, parse
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.evidence import evidence_of
from mlip_autopipec.daemons.inference import Proposal, complete, propose
from mlip_autopipec.daemons.labellerchoice import Choice, choose_labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.daemons.surrogatechoice import SurrogateChoice, choose_surrogate
from mlip_autopipec.stages.budget import Budget, DftCost, budget
from mlip_autopipec.stages.composition import MaterialSettings
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.infer import temperatures
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.structures.seeds.generator import start_structure

_SEEDS = Path("start/seeds.extxyz")
_START = Path("start/structure.extxyz")
_CRYSTAL = Path("start/crystal.extxyz")
_HELDOUT = Path("start/heldout.extxyz")


@dataclass(frozen=True)
class Prepared:
    """Everything that `init` writes, and what it says.

    Attributes
    ----------
    data : the short configuration, as it is written
    reasons : by dotted key, of what is inferred
    """

    data: Mapping[str, Any]
    config: Config
    reasons: Mapping[str, str]
    proposal: Proposal
    choice: Choice
    surrogate: SurrogateChoice
    budget: Budget

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, JSON-ready."""
        material, plan = self.proposal.material, self.proposal.plan
        return {
            "formula": material.formula,
            "kind": material.kind,
            "prototypes": [{"name": p.name, "reason": p.reason} for p in material.prototypes or material.lattices],
            "labeller": {**self.choice.section, "reason": self.choice.reason},
            "surrogate": {**(self.surrogate.section or {"kind": "none"}), "reason": self.surrogate.reason},
            "seeds": self.proposal.seeds.counts(),
            "notes": [*material.warnings, *self.proposal.seeds.notes],
            "policy": list(plan.reasons),
            "start_atoms": len(self.proposal.start),
            "walkers": [walker.temperature for walker in walker_plans(self.config.otf)],
            "inferred": dict(self.reasons),
            "labels": {"seeds": self.budget.seeds, "on_the_fly": self.budget.on_the_fly, "all": self.budget.labels},
            "core_hours": self.budget.core_hours,
        }


def prepare(
    what: str, labeller: str | None, seed: int, surrogate: str | None = None, evidence: RunDirectory | None = None
) -> Prepared:
    """Plan a run for a formula or a file with a crystal; nothing is written.

    Parameters
    ----------
    labeller, surrogate
        As they are asked for; None: what is there.
    evidence
        An earlier run, whose labels say what kinds of seeds are worth more.

    Raises
    ------
    ConfigError
        No formula, no known crystal, nobody who could label it, or a surrogate that is not there.
    NotFoundError
        `evidence` is no run with labels.
    """
    file = Path(what)
    if file.is_file():
        settings = MaterialSettings(structure=file.absolute(), seed=seed)
    elif file.suffix or "/" in what:
        raise ConfigError(f"{what}: file not found", "give a formula (Al2Cu), or a file with a crystal")
    else:
        settings = MaterialSettings(formula=what, seed=seed)
    told = None if evidence is None else evidence_of(evidence, load_in_force(evidence).training)
    proposal = propose(settings, Path(), told)
    choice = choose_labeller(proposal.material.elements, labeller, NodeSettings())
    section: dict[str, Any] = {"formula": what} if settings.structure is None else {"structure": str(_CRYSTAL)}
    if told is not None:
        # Written down: who reads the file later has no such evidence.
        section["shares"] = {name: round(share, 4) for name, share in proposal.plan.shares.items()}
        settings = settings.model_copy(update={"shares": section["shares"]})
    data = {
        "material": {**section, "seed": seed},
        "start": {"structure": str(_START), "dataset": str(_SEEDS)},
        "labeller": dict(choice.section),
    }
    explorer = choose_surrogate(surrogate, choice.section)
    if explorer.section is not None:
        data["explore"] = _explore(explorer, seed)
    # The crystal is not in its place yet.
    given = {**data, "material": settings.model_dump(mode="json", exclude_none=True)}
    filled, reasons = complete(given, Path(), is_new=True)
    config = parse(filled, Path("autopipe.yaml"))
    walkers = walker_plans(config.otf)
    spent = budget(
        proposal.seeds.frames, _cost(config), len(walkers), proposal.start, config.otf.audit_fraction,
        picks=config.explore.picks if config.explore.explores else None,
    )  # fmt: skip
    return Prepared(data, config, reasons, proposal, choice, explorer, spent)


def _explore(explorer: SurrogateChoice, seed: int) -> dict[str, Any]:
    """Return the section `explore`; its temperatures, pressures and shares are inferred like everything else."""
    section = dict(explorer.section or {})
    if explorer.file is not None:
        section["model"] = str(_START.parent / explorer.file.name)
    return {"surrogate": section, "seed": seed}


def _cost(config: Config) -> DftCost:
    labeller = config.labeller
    spin = getattr(labeller, "nspin", None) == 2
    return DftCost(labeller.engine, float(getattr(labeller, "kspacing", 0.0)), spin)


def write(run: RunDirectory, prepared: Prepared, what: str) -> None:
    """Write seeds, start structure and, last, `autopipe.yaml` into an empty run directory."""
    run.start.mkdir(parents=True, exist_ok=True)
    if "structure" in prepared.data["material"]:
        ase.io.write(run.root / _CRYSTAL, read_structures(Path(what), "STRUCTURE")[-1])
    if prepared.surrogate.file is not None:
        shutil.copyfile(prepared.surrogate.file, run.start / prepared.surrogate.file.name)
    ase.io.write(run.root / _SEEDS, list(prepared.proposal.seeds.frames))
    ase.io.write(run.root / _START, prepared.proposal.start)
    if dict(prepared.choice.section) == {"engine": "teacher", "model": "emt"}:
        # A teacher costs nothing: what the potential says of its MD can be compared with what it says itself.
        small = start_structure(prepared.proposal.material, int(prepared.data["material"]["seed"]), least=30, most=108)
        states = [(t, 1.0 + 2e-5 * t) for t in temperatures(prepared.proposal.material)]
        ase.io.write(run.root / _HELDOUT, emt_heldout(small, states))
    write_text(run.config_file, _text(prepared))


def _text(prepared: Prepared) -> str:
    material = prepared.proposal.material
    head = [
        f"# {material.formula}: what is not written here is inferred from `material`; `autopipe config expand` writes",
        "# all values with their reasons. What you write here always wins; `autopipe config schema` lists every key.",
        f"# Labels: {prepared.choice.reason}.",
    ]
    return "\n".join(head) + "\n" + dump_mapping(dict(prepared.data))


def tell(prepared: Prepared) -> None:
    """Print the plan for people."""
    facts = prepared.to_dict()
    click.echo(f"{facts['formula']}: {facts['kind']}")
    for crystal in facts["prototypes"]:
        click.echo(f"  {crystal['name']}: {crystal['reason']}")
    click.echo(f"labels by {facts['labeller']['engine']}: {prepared.choice.reason}")
    click.echo(f"explored by {facts['surrogate']['kind']}: {facts['surrogate']['reason']}")
    click.echo("seeds: " + ", ".join(f"{n} {name}" for name, n in facts["seeds"].items()))
    temperatures = ", ".join(f"{t:.0f}" for t in facts["walkers"])
    click.echo(f"walkers: {facts['start_atoms']} atoms each at {temperatures} K")
    for line in facts["policy"]:
        click.echo(f"  {line}")
    for note in facts["notes"]:
        click.echo(f"note: {note}", err=True)
    labels = facts["labels"]
    first = "seeds" if prepared.surrogate.section is None else "picks"
    click.echo(
        f"estimate: {labels['all']} labels ({labels['seeds']} {first}, about {labels['on_the_fly']} on the fly), "
        f"{facts['core_hours']:.2g} core-hours"
    )
