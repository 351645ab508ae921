"""An NFS server of this run's own: nfs-ganesha in the foreground, to be killed and started again."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Final

ADDRESS: Final = "10.77.0.1"
NFS_PORT: Final = 2049
MOUNT_PORT: Final = 20048
_START_S: Final = 20.0

_CONFIG: Final = """
NFS_CORE_PARAM {{
  Protocols = 3,4; NFS_Port = {nfs_port}; MNT_Port = {mount_port}; Enable_NLM = false; Enable_RQUOTA = false;
}}
NFSV4 {{
  Grace_Period = 1; Lease_Lifetime = 5; Minor_Versions = 0,1,2;
  Allow_Numeric_Owners = true; Only_Numeric_Owners = true; Graceless = true;
}}
EXPORT {{
  Export_Id = 1; Path = {export}; Pseudo = /q; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
  Protocols = 3,4; FSAL {{ Name = VFS; }}
}}
"""


class Server:
    """nfs-ganesha, exporting `lab/export`; its files are private to the mount namespace it runs in.

    Attributes
    ----------
    kills : how often it was killed
    """

    def __init__(self, lab: Path) -> None:
        self.kills = 0
        self.export = lab / "export"
        self.export.mkdir()
        self._log = lab / "ganesha.log"
        self._config = lab / "ganesha.conf"
        self._config.write_text(_CONFIG.format(nfs_port=NFS_PORT, mount_port=MOUNT_PORT, export=self.export))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers; a `RuntimeError` tells the end of its log."""
        words = ["ganesha.nfsd", "-F", "-f", str(self._config), "-L", str(self._log), "-p", f"{self._config}.pid"]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"nfs-ganesha does not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    @staticmethod
    def _answers() -> bool:
        try:
            socket.create_connection((ADDRESS, NFS_PORT), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL: it forgets whom it answered what."""
        self.stop()
        self.kills += 1

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
