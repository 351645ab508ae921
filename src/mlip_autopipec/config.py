"""Composes every room's settings: loads `autopipe.yaml`, explains what is wrong with it, freezes it."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlip_autopipec.core.errors import AutopipeError, ConfigError
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.yamlfile import commented, dump_mapping, read_mapping
from mlip_autopipec.daemons.settings import NodeSettings, SupervisorSettings
from mlip_autopipec.engines.calculators.settings import AseSettings
from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.engines.gpaw.settings import GpawSettings
from mlip_autopipec.engines.lammps.settings import LammpsSettings
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.engines.vasp.settings import VaspSettings
from mlip_autopipec.stages.carve import EmbeddingSettings
from mlip_autopipec.stages.composition import MaterialSettings
from mlip_autopipec.stages.end import EndSettings
from mlip_autopipec.stages.explore import ExploreSettings, StartSettings
from mlip_autopipec.stages.label import LabellingSettings
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings, RetentionSettings

# A changed value would mix labels or histories that do not belong together; every other key may change at a restart.
FROZEN: Final = ("labeller", "start")
# First words of an expanded configuration that no start has frozen.
_DRAFT: Final = "# Not started"
# What pydantic adds to the path of a value of which there are several kinds: the kind that it tried.
_BRANCH: Final = re.compile(r"number|list|str|int|float|(literal|tuple|dict|list|constrained-\w+)\[.*")
_SECTION: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})
_PLAIN: Final = {
    "float_type": "give a number",
    "float_parsing": "give a number without a unit",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "string_type": "give text",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "tuple_type": "give a list",
    "too_short": "give at least {min_length}",
    "too_long": "give at most {max_length}",
    "path_type": "give the name of a file",
}


class NotStarted(AutopipeError):  # noqa: N818  says what is
    """Nobody has started this run yet, so nothing is frozen."""


class Config(BaseModel):
    """The whole of `autopipe.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    material: MaterialSettings | None = Field(
        None, description="composition or crystal, from which values that nobody gives are inferred"
    )
    start: StartSettings = Field(description="where the run begins")
    labeller: Annotated[
        TeacherSettings | EspressoSettings | GpawSettings | VaspSettings | AseSettings, Field(discriminator="engine")
    ] = Field(description="who computes energies and forces; the same for all labels of a run")
    explore: ExploreSettings = Field(
        default_factory=ExploreSettings, description="MD with a surrogate, from which the first labels are picked"
    )
    labelling: LabellingSettings = Field(
        default_factory=LabellingSettings, description="which labels are accepted, and which are marked"
    )
    otf: OtfSettings = Field(default_factory=OtfSettings, description="molecular dynamics under watch")
    end: EndSettings = Field(default_factory=EndSettings, description="when MD ends before its steps are made")
    lammps: LammpsSettings = Field(default_factory=LammpsSettings, description="how LAMMPS is run")
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings, description="cells cut out for labelling")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="fit and when to refit")
    queue: QueueSettings = Field(default_factory=QueueSettings, description="task files")
    retention: RetentionSettings = Field(
        default_factory=RetentionSettings, description="what is kept, and how much of the disk stays free"
    )
    supervisor: SupervisorSettings = Field(default_factory=SupervisorSettings, description="processes of this host")
    node: NodeSettings = Field(default_factory=NodeSettings, description="what differs from node to node")

    def labeller_settings(self) -> dict[str, Any]:
        """Return the labeller's settings as they stand in task files (JSON-ready, all defaults expanded)."""
        return self.labeller.model_dump(mode="json")

    def path(self, run: RunDirectory, relative: Path) -> Path:
        """Resolve a path of the `start` section against the run directory."""
        return relative if relative.is_absolute() else run.root / relative


def load(run: RunDirectory) -> Config:
    """Read and check `autopipe.yaml`; what it leaves open is inferred from its material, if it names one.

    Raises
    ------
    ConfigError
        Names file, key, value and fix; one line for each mistake.
    """
    return load_with_reasons(run)[0]


def load_with_reasons(run: RunDirectory) -> tuple[Config, dict[str, str]]:
    """Do what `load` does, and return the reason by dotted key of every inferred value.

    Raises
    ------
    ConfigError
        Names file, key, value and fix; one line for each mistake.
    """
    if not run.config_file.exists() and was_started(run):
        raise ConfigError(
            f"{run.config_file}: file not found",
            f"the run was started with what is in {run.frozen_config.name}: copy that to {run.config_file.name}",
        )
    data = read_mapping(run.config_file)
    reasons: dict[str, str] = {}
    if "material" in data:
        # Crystals and their symmetries take a second to import, and most reads need none.
        from mlip_autopipec.daemons.inference import complete

        data, reasons = complete(data, run.root)
    return parse(data, run.config_file), reasons


def load_frozen(run: RunDirectory) -> Config:
    """Read the configuration with which the run was started: what every daemon uses, whatever is edited meanwhile.

    Raises
    ------
    NotStarted
        The run was never started.
    ConfigError
        It was written by a version that knew other keys, or was edited by hand.
    """
    if not was_started(run):
        raise NotStarted(f"{run.root}: not started yet", "autopipe otf start", transient=True)
    return parse(read_mapping(run.frozen_config), run.frozen_config)


def load_in_force(run: RunDirectory) -> Config:
    """Read the configuration with which the run was started, or `autopipe.yaml` if it never was."""
    try:
        return load_frozen(run)
    except NotStarted:
        return load(run)


def parse(data: dict[str, Any], file: Path) -> Config:
    """Check a configuration that was read from `file`."""
    wrong = {key: f"{file}: {key}: {value}: {told}" for key, value, told in _misfits(data, [])}
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        for problem in error.errors():
            location = _location(problem["loc"])
            key = ".".join(location)
            # Of a choice of types every one complains: the first tells enough.
            if key not in wrong:
                wrong[key] = _explain(problem, location, file)
    lines = [line for key, line in wrong.items() if not any(other.startswith(f"{key}.") for other in wrong)]
    if lines:
        raise ConfigError("\n".join(lines), "`autopipe config schema` lists every key with unit and default")
    return config


def _location(parts: Sequence[Any]) -> list[str]:
    """Return the path of a mistake as it stands in the file: without the kinds of value that pydantic tried."""
    names = [str(part) for part in parts]
    if names[:1] == ["labeller"] and names[1:2] and names[1] in _tags(["labeller"]):
        del names[1]
    return [name for name in names if not _BRANCH.fullmatch(name)]


def _misfits(data: Any, location: list[str]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and fix of what pydantic accepts and nobody means: `true` as a number, infinity."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _misfits(value, [*location, str(key)])
    elif isinstance(data, float) and not math.isfinite(data):
        yield ".".join(location), data, "give a finite number"
    elif isinstance(data, bool):
        named = [part for part in location if not part.isdigit()]
        field = _fields_at(named[:-1]).get(named[-1]) if named else None
        if field is not None and not _takes_booleans(field.annotation):
            yield ".".join(location), data, f"neither true nor false has a meaning here{_unit(named)}"


def _takes_booleans(annotation: Any) -> bool:
    parts = getattr(annotation, "__args__", ())
    return annotation is bool or any(isinstance(part, bool) or _takes_booleans(part) for part in parts)


def _explain(problem: Any, location: list[str], file: Path) -> str:
    """Return one mistake as `file: key: value: what is wrong; fix`."""
    key = ".".join(location) or "(top level)"
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"{file}: {key}: unknown key{_suggestion(location)}"
    if kind == "missing":
        return f"{file}: {key}: missing{_unit(location)}"
    if kind == "union_tag_not_found":
        name = problem["ctx"]["discriminator"].strip("'")
        return f"{file}: {key}.{name}: missing{_unit([*location, name])}; allowed are {', '.join(_tags(location))}"
    if kind == "union_tag_invalid":
        name, tags = problem["ctx"]["discriminator"].strip("'"), _tags(location)
        return f"{file}: {key}.{name}: {problem['ctx']['tag']!r}: {_choice(problem['ctx']['tag'], tags)}"
    if kind == "literal_error":
        options = [option.strip("'") for option in re.split(", | or ", problem["ctx"]["expected"])]
        return f"{file}: {key}: {value!r}: {_choice(str(value), options)}{_unit(location)}"
    if kind in _SECTION:
        engines = " or ".join(_tags(location)) if location == ["labeller"] else ""
        known = f"engine ({engines}) and what belongs to it" if engines else ", ".join(_fields_at(location))
        return f"{file}: {key}: give a section of keys" + (f": {known}" if known else "")
    message = _PLAIN.get(kind, str(problem["msg"]).removeprefix("Value error, "))
    if kind in _PLAIN:
        message = message.format(**problem.get("ctx", {}))
    if message.startswith(key):
        return f"{file}: {message}"
    shown = "" if isinstance(value, dict) else f" {value!r}:"
    return f"{file}: {key}:{shown} {message[0].lower()}{message[1:]}{_unit(location)}"


def _tags(location: list[str]) -> list[str]:
    """Return the values that choose between the models at `location`."""
    fields = [model.model_fields["engine"] for model in _models_at(location) if "engine" in model.model_fields]
    return [str(option) for field in fields for option in get_args(field.annotation)]


def _choice(value: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, options, n=1)
    allowed = ", ".join(f"'{option}'" for option in options)
    return f"allowed are {allowed}" + (f"; did you mean {close[0]!r}?" if close else "")


def _fields_at(location: list[str]) -> dict[str, Any]:
    """Return the fields of the section that `location` names."""
    return {name: field for model in _models_at(location) for name, field in model.model_fields.items()}


def _models_at(location: list[str]) -> list[Any]:
    """Return the settings models that may stand at `location`."""
    models: list[Any] = [Config]
    for part in location:
        found: list[Any] = []
        for model in models:
            field = model.model_fields.get(part)
            found += models_in(field.annotation) if field is not None else []
        # A list index stands between the field and its model.
        models = found or (models if part.isdigit() else [])
    return models


def models_in(annotation: Any) -> list[Any]:
    """Return the settings models that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]


def _suggestion(location: list[str]) -> str:
    known = list(_fields_at(location[:-1]))
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _unit(location: list[str]) -> str:
    field = _fields_at(location[:-1]).get(location[-1]) if location else None
    return f" ({location[-1]}: {field.description})" if field is not None and field.description else ""


def check_frozen(run: RunDirectory, config: Config) -> None:
    """Compare with what the run was started with.

    Raises
    ------
    ConfigError
        A frozen section differs from that of an earlier start.
    """
    if was_started(run):
        earlier, expanded = _completed(read_mapping(run.frozen_config)), config.model_dump(mode="json")
        for section in FROZEN:
            _refuse_change(run, section, earlier.get(section), expanded[section])


def was_started(run: RunDirectory) -> bool:
    """True if the run's configuration was frozen by a start; `config expand` alone writes a draft."""
    if not run.frozen_config.exists():
        return False
    with run.frozen_config.open(encoding="utf-8") as lines:
        return not lines.readline().startswith(_DRAFT)


def expand(config: Config, reasons: Mapping[str, str]) -> str:
    """Return all keys of a configuration as YAML, with a comment above every inferred value."""
    return commented(config.model_dump(mode="json"), reasons)


def write_draft(run: RunDirectory, config: Config, reasons: Mapping[str, str]) -> None:
    """Write the expanded configuration for people to read, as long as no start has frozen one.

    Raises
    ------
    ConfigError
        The run was started.
    """
    if was_started(run):
        raise ConfigError(
            f"{run.frozen_config}: is what this run was started with",
            "`autopipe config expand --stdout` shows the new one",
        )
    write_text(
        run.frozen_config,
        f"{_DRAFT}: `autopipe otf start` writes it anew. Edit autopipe.yaml.\n" + expand(config, reasons),
    )


def freeze(run: RunDirectory, config: Config, reasons: Mapping[str, str] | None = None) -> str:
    """Write the expanded configuration into the run; return its hash.

    Parameters
    ----------
    reasons
        By dotted key, of inferred values.

    Raises
    ------
    ConfigError
        A frozen section differs from that of an earlier start.
    """
    check_frozen(run, config)
    digest = hashlib.sha256(dump_mapping(config.model_dump(mode="json")).encode()).hexdigest()[:12]
    text = expand(config, reasons or {})
    run.create()
    write_text(run.config / f"{digest}.yaml", text)
    write_text(run.frozen_config, text)
    return digest


def _completed(earlier: dict[str, Any]) -> dict[str, Any]:
    """Give the frozen sections of an earlier start the defaults of keys that did not exist then."""
    sections = {section: earlier[section] for section in FROZEN if section in earlier}
    try:
        return Config.model_validate(sections).model_dump(mode="json")
    except ValidationError:  # it had keys that are gone: compared as they stand
        return earlier


def _refuse_change(run: RunDirectory, section: str, earlier: Any, now: Any) -> None:
    if not isinstance(earlier, dict):
        return
    for key in sorted(set(earlier) | set(now)):
        if earlier.get(key) != now.get(key):
            raise ConfigError(
                f"{run.config_file}: {section}.{key}: {now.get(key)!r}, but this run began with {earlier.get(key)!r}",
                "one run never mixes labels of different settings: put the value back, or `autopipe init` a new run",
            )
