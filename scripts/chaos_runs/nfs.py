"""The task queue of two real hosts on NFS: lost replies, server kills, worker kills, clocks one hour apart."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from chaos_runs.nfs_lab.course import run_version
from chaos_runs.nfs_lab.machine import make_network

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.errors import EngineError

LAB = Path(__file__).with_name("nfs_lab")
# What is needed, and the package that has it.
PROGRAMS = {
    "linux": "user-mode-linux",
    "ganesha.nfsd": "nfs-ganesha nfs-ganesha-vfs",
    "mount.nfs": "nfs-common",
    "rpcbind": "rpcbind",
    "ip": "iproute2",
    "insmod": "kmod",
}
COLUMNS = {
    "tasks": "tasks", "hosts": "hosts", "processes": "processes each", "wall_s": "wall (s)",
    "tasks_per_s": "tasks/s", "faults": "faults", "replies_lost": "replies lost", "connections_cut": "connections cut",
    "server_kills": "server kills", "worker_kills": "worker kills", "worker_stops": "workers put to sleep",
    "hand_moves": "files moved by hand",
    "renames_mine": "renames done though ENOENT", "links_mine": "links done though EEXIST",
    "re_executions": "re-executions", "re_executions_without_cause": "of living holders", "lost": "lost",
    "duplicated": "duplicated", "torn": "torn", "tidy_s": "all in done/ after (s)",
}  # fmt: skip


def install() -> None:
    """Install what is missing, as root."""
    if os.geteuid() != 0:
        raise EngineError("namespaces, tap devices and mounts need root", "sudo scripts/chaos nfs")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    packages = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if not packages:
        return
    words = " ".join(packages).split()
    hint = f"as root: apt-get install {' '.join(words)}"
    if shutil.which("apt-get") is None:
        raise EngineError("there is no apt-get", hint)
    click.echo(f"installing {' '.join(words)} ...", err=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with services_stay_off():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *words]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
            if done.returncode:
                raise EngineError(f"apt-get {command[0]} failed: {done.stderr[-500:]}", hint)


@contextlib.contextmanager
def services_stay_off() -> Iterator[None]:
    """Let Debian start no service that it installs; a policy that is there already stays."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink()


def enter_namespaces() -> None:
    """Start again in network, mount and process namespaces of its own: with them goes all that was started in them."""
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGTERM", "--mount-proc"]
    probe = [*words, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap"]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"no namespaces or tap devices: {done.stderr.strip()}", "run it outside of the container")
    again = [sys.executable, "-P", "-m", "chaos_runs.nfs", "--inside", *sys.argv[1:]]
    os.execvpe("unshare", [*words, *again], {**os.environ, "PYTHONPATH": str(LAB.parents[1])})


def prepare(folder: Path) -> Path | None:
    """Make what all runs share; return a library that user-mode Linux needs on this CPU, or None."""
    # Process 1 of a namespace ignores what it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for line in ("mount -t tmpfs tmpfs /run", "mount -t tmpfs tmpfs /var/lib/nfs", "rpcbind -w"):
        subprocess.run(line.split(), check=True)
    Path("/var/lib/nfs/ganesha").mkdir()
    make_network(2)
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        return None
    library = folder / "wide_registers.so"
    compile_it = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(LAB / "wide_registers.c"), "-ldl"]
    try:
        subprocess.run(compile_it, check=True)
    except FileNotFoundError:
        raise EngineError("user-mode Linux needs a C compiler on this CPU", "apt-get install gcc libc6-dev") from None
    return library


def losses(report: dict[str, Any]) -> list[str]:
    """Return what must not have happened and did."""
    zero = ("lost", "duplicated", "torn", "re_executions_without_cause")
    bad = [f"{key}: {report[key]}" for key in zero if report[key]]
    if report["states"] != {"done": report["tasks"]}:
        bad.append(f"states: {report['states']}")
    return [f"NFS {report['nfs']}: {what}" for what in (*bad, *report["errors"][:5])]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--tasks", default=1000, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Of faults, for each version.")
@click.option("--versions", default="3,4.2", show_default=True, help="Of NFS.")
@click.option("--workers", default=4, show_default=True, help="Processes of each host.")
@click.option("--lease", default=15.0, show_default=True, help="s")
@click.option("--pause", default=1.0, show_default=True, help="Mean pause between faults, s.")
@click.option("--seed", default=1, show_default=True)
@click.option("--inside", is_flag=True, hidden=True)
def main(as_json: bool, versions: str, inside: bool, **plan: Any) -> None:
    """Exit code 1 if anything was lost, doubled or torn; 78 if this machine cannot do it. Needs root and Debian."""
    if not inside:
        try:
            install()
            enter_namespaces()
        except EngineError as error:
            click.echo(f"chaos nfs: {error}\n  {error.hint}", err=True)
            raise SystemExit(78) from None
    plan |= {"kill_every": plan["seconds"] / 10, "stop_every": plan["seconds"] / 3, "move_every": plan["seconds"] / 40}
    with tempfile.TemporaryDirectory(prefix="nfs-") as folder:
        preload = prepare(Path(folder))
        reports = []
        for version in versions.split(","):
            reports.append(run_version(version, plan, preload))
            click.echo(f"NFS {version}: {'; '.join(losses(reports[-1])) or 'nothing lost'}", err=True)
    bad = [what for report in reports for what in losses(report)]
    if as_json:
        click.echo(json.dumps({"runs": reports, "bad": bad}))
    else:
        rows = ((title, *(str(report[key]) for report in reports)) for key, title in COLUMNS.items())
        print_table("chaos nfs", ("what", *(f"v{report['nfs']}" for report in reports)), rows)
        click.echo("\n".join(bad) or "nothing lost, nothing doubled, nothing torn")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
