"""Hosts for one run: user-mode Linux guests that see this machine's files, with kernels and clocks of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Final

from chaos_runs.nfs_lab.server import ADDRESS, MOUNT_PORT

PROXY_PORT: Final = 3049
_MEMORY_MB: Final = 512
# In the order of their dependences.
_MODULES: Final = "netfs fscache dns_resolver oid_registry sunrpc grace lockd nfs_acl nfs nfsv3 nfsv4"

_INIT: Final = """#!/bin/bash
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname {name}
for module in {modules}; do
  insmod "$(find /usr/lib/uml/modules/$(uname -r) -name $module.ko)"
done
ip link set lo up
ip addr add {address}/24 dev eth0
ip link set eth0 up
date -s @$(( $(date +%s) + {clock_s} ))
mount -t nfs -o {options} {source} {mount} && {command}
echo "command ended: $?"
sync
umount {mount} || umount -l {mount}
halt -f -p
"""


def make_network(guests: int) -> None:
    """Make a bridge with one tap device for each guest, inside the network namespace of this process."""
    lines = ["ip link set lo up", "ip link add br0 type bridge", f"ip addr add {ADDRESS}/24 dev br0"]
    for number in range(1, guests + 1):
        lines += [f"ip tuntap add dev tap{number} mode tap", f"ip link set tap{number} master br0 up"]
    for line in [*lines, "ip link set br0 up"]:
        subprocess.run(line.split(), check=True)


class Guest:
    """One host.

    Parameters
    ----------
    number
        From 1; makes its name, its address and its tap device.
    version
        Of NFS: "3" or "4.2".
    clock_s
        How far its clock is ahead, s.
    command
        What it runs while the export is mounted on `lab/mnt`; it sees the file system of this machine.
    preload
        A library for user-mode Linux itself, or None.
    """

    def __init__(
        self,
        lab: Path,
        number: int,
        *,
        version: str,
        export: Path,
        clock_s: int,
        command: list[str],
        preload: Path | None,
    ) -> None:
        self.name = f"host{number}"
        self._console = lab / f"{self.name}.console"
        self._number = number
        self._preload = preload
        self._init = lab / f"{self.name}.init"
        mount = lab / "mnt"
        mount.mkdir(exist_ok=True)
        options = f"vers={version},proto=tcp,nolock,port={PROXY_PORT}"
        if version == "3":
            options += f",mountport={MOUNT_PORT},mountproto=tcp"
        source = f"{ADDRESS}:{export if version == '3' else '/q'}"
        text = _INIT.format(
            name=self.name,
            modules=_MODULES,
            address=f"10.77.0.{10 + number}",
            clock_s=clock_s,
            options=options,
            source=source,
            mount=shlex.quote(str(mount)),
            command=shlex.join(command),
        )
        self._init.write_text(text)
        self._init.chmod(0o700)
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self, limit_s: float) -> None:
        """Start; the guest is killed when it is not halted after `limit_s`."""
        tap = f"tap{self._number}"
        words = [
            *("timeout", "--kill-after=5", str(limit_s), "linux", f"umid={self._init.parent.name}-{self.name}"),
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"init={self._init}"),
            *(f"mem={_MEMORY_MB}M", f"vec0:transport=tap,ifname={tap},depth=128", f"eth0=tuntap,{tap}"),
            *("con=null", "con0=fd:0,fd:1", "quiet"),
        ]
        variables = {**os.environ, "TMPDIR": "/dev/shm", "HOME": str(self._init.parent)}
        if self._preload is not None:
            variables["LD_PRELOAD"] = str(self._preload)
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=variables,
            )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """Return the end of what it wrote on its console."""
        return self._console.read_text(errors="replace")[-1500:]

    def stop(self) -> None:
        """End it, if it runs; `timeout` passes that on."""
        if self._process is not None and self.runs:
            self._process.terminate()
            self._process.wait()

    def wait(self, limit_s: float) -> bool:
        """Wait until it has halted; False if it has not."""
        if self._process is None:
            return True
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True
