"""Failpoints end this process right before or after a call of its storage: for tests of recovery.

``JOBQUEUE_FAILPOINT=finish.after`` ends it when its first ``finish`` is answered, before anybody
hears of that; ``claim.before:3`` when the third ``claim`` is about to be sent. Every verb of the
port has both. Without the variable nothing of this is loaded, and no call passes through here.
"""

from __future__ import annotations

import os
import re
from inspect import iscoroutinefunction
from typing import Any, Final

from jobqueue.errors import ConfigurationError
from jobqueue.storage.base import Storage

EXIT_STATUS: Final = 86
"""Of a process that ended at its failpoint: no other way to end gives it."""
VERBS: Final = tuple(
    name
    for name, member in vars(Storage).items()
    if iscoroutinefunction(member) and not name.startswith("_")
)
MOMENTS: Final = ("before", "after")
_SPELLING: Final = re.compile(r"(?P<verb>\w+)\.(?P<moment>\w+)(:(?P<number>[1-9][0-9]*))?")


class Failpoint:
    """One place at which the process ends, as ``kill -9`` would end it: nothing is tidied up.

    Args:
        text: ``VERB.before`` or ``VERB.after``, and ``:N`` for the N-th call in place of the first.
            Calls are counted for a handle and its twins together.

    Raises:
        ConfigurationError: There is no such failpoint.
    """

    def __init__(self, text: str) -> None:
        found = _SPELLING.fullmatch(text)
        if found is None or found["verb"] not in VERBS or found["moment"] not in MOMENTS:
            raise ConfigurationError(
                f"there is no failpoint {text!r}: use VERB.before or VERB.after, with :N for the "
                f"N-th call, where VERB is one of {', '.join(VERBS)}"
            )
        self._name = text
        self._verb: Final[str] = found["verb"]
        self._moment: Final[str] = found["moment"]
        self._left = int(found["number"] or 1)

    def arm(self, storage: Storage) -> Storage:
        """Put it into a handle, and into every twin that is made of it; gives that handle."""
        call, twin = getattr(storage, self._verb), storage.twin

        async def call_and_end(*arguments: Any, **named: Any) -> Any:
            self._pass("before")
            answer = await call(*arguments, **named)
            self._pass("after")
            return answer

        setattr(storage, self._verb, call_and_end)
        storage.twin = lambda: self.arm(twin())
        return storage

    def _pass(self, moment: str) -> None:
        if moment != self._moment:
            return
        self._left -= 1
        if self._left == 0:
            os.write(2, f"jobqueue: ended at the failpoint {self._name}\n".encode())
            os._exit(EXIT_STATUS)
