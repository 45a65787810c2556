"""Small disks that can be filled, for those who may mount one.

Nobody has to be root for that: in a user and mount namespace of its own (``unshare``) a process may
mount what it likes, others do not see it, and the kernel removes it with the last process that is
in there. A process cannot move into a namespace once it has threads, so who wants a disk starts a
program in one. Containers and some systems forbid it.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Final

IN_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount")
"""Goes before a command that is to have disks."""
NO_MOUNT: Final = (
    "a disk that can be filled has to be mounted, and nobody may do that here, not even in a "
    "namespace of his own (try: unshare --user --map-root-user --mount mount -t tmpfs tmpfs /tmp)"
)
_MOUNT: Final = ("mount", "-t", "tmpfs")


@lru_cache(maxsize=1)
def can_mount() -> bool:
    """Whether a command after :data:`IN_NAMESPACE` may mount a disk on this machine."""
    if shutil.which(IN_NAMESPACE[0]) is None:
        return False
    command = [*IN_NAMESPACE, *_MOUNT, "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


class SmallDisk:
    """A file system in memory. Only in a namespace.

    Args:
        folder: Where it appears; exists.
        mib: Its size.
    """

    def __init__(self, folder: Path, mib: int) -> None:
        self._folder = folder
        self._mib = mib
        self._filler = folder / "filler"

    def mount(self) -> None:
        options = f"size={self._mib}m,mode=0700"
        command = [*_MOUNT, "-o", options, "tmpfs", str(self._folder)]
        subprocess.run(command, check=True, timeout=30)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True, timeout=30)

    def fill(self) -> int:
        """Take all room that is left; how many bytes that was."""
        taken = 0
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        taken += file.write(bytes(size))
                except OSError:
                    continue
        return taken

    def make_room(self) -> None:
        """Give back what :meth:`fill` took."""
        self._filler.unlink()
