"""What the settings leave open is chosen here, once for all labels of a run, and every choice has its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlip_autopipec.core.dftsettings import METAL_KSPACING
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.magnetism import MAGNETIC
from mlip_autopipec.engines.espresso.library import Entry, Library, highest_cutoffs, load_library
from mlip_autopipec.engines.espresso.pseudopotentials import Pseudopotential, load_pseudopotentials
from mlip_autopipec.engines.espresso.settings import EspressoSettings

_STARTING_MAGNETIZATION = 0.4
_UNKNOWN_CUTOFF_RY = 40.0


@dataclass(frozen=True)
class Choices:
    """What is the same in all inputs of a run.

    Attributes
    ----------
    pseudopotentials : by element
    magnetization : starting magnetization of each element; zero without spin
    reasons : why, by key of the input
    """

    pseudopotentials: Mapping[str, Pseudopotential]
    ecutwfc_ry: float
    ecutrho_ry: float
    nspin: int
    magnetization: Mapping[str, float]
    reasons: Mapping[str, str]

    def require(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if there is no pseudopotential for one of these elements."""
        missing = sorted(set(symbols) - set(self.pseudopotentials))
        if missing:
            raise ConfigError(
                f"labeller.pseudopotentials: has nothing for {', '.join(missing)}",
                f"add a line '{missing[0]}: <file name>', or name it in labeller.elements",
            )


def choose(settings: EspressoSettings, folder: Path) -> Choices:
    """Complete `settings` with the pseudopotentials in `folder`.

    Raises
    ------
    ConfigError
        A file is missing, not the one of the manifest, or of another functional; or an element has none.
    """
    library = load_library(folder) if folder.is_dir() else None
    files, reasons = _files(settings, folder, library)
    loaded = load_pseudopotentials(files, folder)
    entries = [library.of_file(name) if library else None for name in files.values()]
    known = [entry for entry in entries if entry is not None] if all(entries) else []
    name = library.name if library else ""
    ecutwfc, reasons["ecutwfc"] = _wave_cutoff(settings, known, name)
    ecutrho, reasons["ecutrho"] = _density_cutoff(settings, known, name, ecutwfc, loaded)
    nspin, reasons["nspin"] = _spin(settings, files)
    magnetization = {
        e: settings.starting_magnetization.get(e, _STARTING_MAGNETIZATION if e in MAGNETIC else 0.0) for e in files
    }
    if nspin == 2 and not any(magnetization.values()):
        raise ConfigError(
            "labeller.starting_magnetization: nspin 2 needs a value other than 0",
            f"give one, e.g. {{{next(iter(files))}: 0.4}}",
        )
    reasons["starting_magnetization"] = (
        f"{_STARTING_MAGNETIZATION:g} for {', '.join(MAGNETIC)}, or labeller.starting_magnetization; "
        f"{settings.magnetic_order}"
    )
    return Choices(loaded, ecutwfc, ecutrho, nspin, magnetization if nspin == 2 else {}, reasons | _plain(settings))


def _files(settings: EspressoSettings, folder: Path, library: Library | None) -> tuple[dict[str, str], dict[str, str]]:
    if settings.pseudopotentials:
        files = dict(settings.pseudopotentials)
        return files, {f"file {element}": "labeller.pseudopotentials" for element in files}
    if library is None:
        raise ConfigError(
            f"labeller.pseudopotentials: is empty, and {folder} has no manifest",
            "name a file for each element, or put a published library with its JSON manifest there",
        )
    chosen = library.choose(settings.elements, settings.functional)
    return (
        {element: entry.file for element, entry in chosen.items()},
        {f"file {element}": f"{entry.functional}, from {library.name}" for element, entry in chosen.items()},
    )


def _wave_cutoff(settings: EspressoSettings, known: list[Entry], name: str) -> tuple[float, str]:
    if settings.ecutwfc_ry is not None:
        return settings.ecutwfc_ry, "labeller.ecutwfc_ry"
    if not known:
        return _UNKNOWN_CUTOFF_RY, "a guess, since no manifest knows the files: converge it"
    highest, _ = highest_cutoffs(known)
    return highest.ecutwfc_ry, f"what {highest.element} needs, of {name}"


def _density_cutoff(
    settings: EspressoSettings, known: list[Entry], name: str, ecutwfc: float, files: Mapping[str, Pseudopotential]
) -> tuple[float, str]:
    if settings.ecutrho_ry is not None:
        return settings.ecutrho_ry, "labeller.ecutrho_ry"
    soft = [element for element, file in files.items() if file.is_soft]
    # Cheaper waves than the files need are for tests: the density is as cheap then.
    if not known or ecutwfc < highest_cutoffs(known)[0].ecutwfc_ry:
        factor = 8 if soft else 4
        why = f"since {soft[0]} is ultrasoft or PAW" if soft else "since all files are norm-conserving"
        return factor * ecutwfc, f"{factor} ecutwfc, {why}"
    _, highest = highest_cutoffs(known)
    if 4 * ecutwfc > highest.ecutrho_ry:
        return 4 * ecutwfc, "4 ecutwfc: the densities of the wave functions"
    return highest.ecutrho_ry, f"what {highest.element} needs, of {name}"


def _spin(settings: EspressoSettings, elements: Collection[str]) -> tuple[int, str]:
    if settings.nspin is not None:
        return settings.nspin, "labeller.nspin"
    if settings.starting_magnetization:
        return 2, "labeller.starting_magnetization is given"
    magnetic = [element for element in MAGNETIC if element in elements]
    if magnetic:
        return 2, f"{', '.join(magnetic)} may be magnetic, and one potential needs labels of one kind"
    return 1, f"no {', '.join(MAGNETIC)} among the elements"


def _plain(settings: EspressoSettings) -> dict[str, str]:
    """Return the reasons of what the settings say outright."""
    spacing = settings.kspacing
    warning = "" if spacing <= METAL_KSPACING else f"; metals need {METAL_KSPACING:.2f}: fine for tests and wide gaps"
    return {
        "calculation": "one SCF; the atoms stay where they are",
        "outdir": "node.espresso.scratch, or beside the input; removed afterwards",
        "prefix": "of file names in outdir",
        "pseudo_dir": "node.espresso.pseudo_dir",
        "tprnfor": "labels have forces",
        "tstress": "labels have stresses",
        "disk_io": "wave functions are not needed afterwards",
        "occupations": "a metal's SCF needs smearing, and an insulator's is not changed by it",
        "smearing": "labeller.smearing; cold smearing keeps forces close to those at 0 K",
        "degauss": f"labeller.degauss_ry; {13605.7 * settings.degauss_ry:.0f} meV",
        "conv_thr": "labeller.conv_thr_ry; forces converge slower than energies",
        "mixing_beta": "labeller.mixing_beta; the ladder lowers it if the SCF fails",
        "mixing_mode": "the ladder takes local-TF if charge sloshes",
        "mixing_ndim": "pw.x's default; the ladder raises it",
        "diagonalization": "Davidson, the fastest; the ladder takes conjugate gradients if it fails",
        "startingwfc": "pw.x's default; noise breaks symmetries of free atoms",
        "electron_maxstep": "labeller.electron_maxstep; the ladder raises it",
        "max_seconds": "node.espresso.max_seconds; a later attempt continues the SCF",
        "tot_charge": "labeller.total_charge",
        "K_POINTS": f"at most {spacing:g} 1/A apart (labeller.kspacing, 2 pi included), "
        f"the same for all labels of a run{warning}",
        "tefield": "of the dipole correction",
        "edir": "the direction without period",
        "eopreg": "a narrow jump, within the vacuum",
        "eamp": "no field but the correction's",
        "dipfield": "a slab's dipole would act on its own images through the vacuum",
        "emaxpos": "in the middle of the vacuum",
        "nat": "the structure",
        "ntyp": "the structure; one species for each starting magnetization",
        "ibrav": "the cell stands below",
    }
