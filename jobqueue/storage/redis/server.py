"""What a server says about itself: whether it is new enough, and what endangers jobs on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from jobqueue.errors import ConfigurationError

logger = logging.getLogger("jobqueue")

SECTIONS: Final = ("server", "memory", "persistence")
"""Of INFO. Not CONFIG GET, which managed servers and careful administrators do not allow."""
_MINIMUM: Final = {"redis": (7, 0), "valkey": (7, 2)}
_told: set[tuple[str, str]] = set()
"""What has been logged in this process, by the server's own name for its run."""


def read_info(answer: bytes) -> dict[str, str]:
    """INFO's answer as a mapping."""
    lines = answer.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def check_version(info: Mapping[str, str], url: str) -> None:
    """Refuse a server that is too old.

    Raises:
        ConfigurationError: The message says what is needed.
    """
    kind = "valkey" if "valkey_version" in info else "redis"
    version = info[f"{kind}_version"]
    if tuple(int(part) for part in version.split(".")[:2]) < _MINIMUM[kind]:
        needed = ".".join(map(str, _MINIMUM[kind]))
        raise ConfigurationError(f"{url} is {kind} {version}; {needed} or newer is needed")


def warn_about_settings(info: Mapping[str, str], url: str) -> None:
    """Log what may lose jobs on this server: each once in this process while the server runs.

    Eviction is a warning: no jobs' server may evict. No append-only file is worth a word only:
    jobs that may be lost with the server are a choice that many make.
    """
    policy, memory = info.get("maxmemory_policy", "noeviction"), info.get("maxmemory", "0")
    if policy != "noeviction" and memory != "0":
        _tell_once(
            info,
            logging.WARNING,
            f"{url} evicts keys when its memory is full (maxmemory-policy {policy}): jobs, leases "
            "and results may vanish without a word. Set maxmemory-policy noeviction: then an "
            "enqueue is refused, and what is stored stays",
        )
    if info.get("aof_enabled") == "0":
        _tell_once(
            info,
            logging.INFO,
            f"{url} keeps no append-only file: if the server dies, jobs that were accepted since "
            "its last snapshot are lost. Set appendonly yes if they must not be",
        )


def _tell_once(info: Mapping[str, str], level: int, message: str) -> None:
    what = (info.get("run_id", ""), message)
    if what not in _told:
        _told.add(what)
        logger.log(level, message)
