"""What a process has taken of the machine, and a server of its memory. Linux only."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import redis

_LOOKS: Final = 5
_LOOK_EVERY: Final = 0.1
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of memory that a process has in the machine's."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def descriptors(pid: int) -> int:
    """Files, sockets and pipes that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def own() -> dict[str, int]:
    """What this process has, after a collection: ``resident`` bytes, open ``descriptors``, and
    ``blocks``, the pieces of memory that Python's objects are made of."""
    gc.collect()
    return {
        "resident": resident(os.getpid()),
        "descriptors": descriptors(os.getpid()) - 1,  # the one that lists them
        "blocks": sys.getallocatedblocks(),
    }


def of_server(admin: redis.Redis) -> dict[str, int]:
    """What a server at rest has: ``keys``, ``clients``, and bytes of ``memory`` without the buffers
    of its connections and its log of slow commands, which is emptied.

    The least of several looks: a buffer is given back some seconds after it was used.
    """
    admin.slowlog_reset()
    admin.execute_command("MEMORY", "PURGE")
    keys = admin.dbsize()
    looks: list[int] = []
    for _ in range(_LOOKS):
        # At one moment: the buffers of this very connection change with each command.
        both = admin.pipeline(transaction=True)
        both.client_list()
        both.info("memory")
        list_of_clients, memory = both.execute()
        buffers = sum(int(client["tot-mem"]) for client in list_of_clients)
        looks.append(memory["used_memory"] - buffers)
        time.sleep(_LOOK_EVERY)
    clients: dict[str, Any] = admin.info("clients")
    return {
        "keys": keys,
        "memory": min(looks),
        "clients": clients["connected_clients"],
    }
