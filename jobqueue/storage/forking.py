"""What is open in a file, and how it survives the doubling of its process.

A SQLite connection must not be carried across a fork, even unused: SQLite remembers for the process
which locks it holds, and the child would take those of its parent for its own. It then writes where
nobody looks, and what it commits is lost or breaks the file
(https://www.sqlite.org/howtocorrupt.html, 2.6). So before a fork everything is closed, each handle
between two of its uses. The parent opens it anew with the next use; the child begins with nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final
from weakref import WeakSet

from jobqueue.errors import StorageError

FORK_SECONDS: Final = 5.0
"""The longest that a fork waits for what is in use. A child that comes sooner may open nothing."""


class Handle:
    """Something that is open while it is used, and closed while the process forks.

    To be used in ``with`` blocks, which keep other threads and forks out.

    Args:
        open: Opens it. What it returns closes it, from any thread.

    Attributes:
        inherited: It belongs to the process from which this one was forked; not to be used.
    """

    def __init__(self, open: Callable[[], ExitStack]) -> None:
        self._open = open
        self._opened: ExitStack | None = None
        self._lock = threading.Lock()
        self.inherited = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._opened is None:
            self._lock.release()
            _forks.keep_out_while(self._reopen)

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def sleep(self, seconds: float) -> None:
        """Sleep within a ``with`` block, but let forks pass: what was open may be another then."""
        self._lock.release()
        time.sleep(seconds)
        try:
            self.__enter__()
        except BaseException:
            self._lock.acquire()  # which the end of the block releases
            raise

    def close(self) -> None:
        """Close it, if it is open. Not within a ``with`` block."""
        with self._lock:
            self._close()

    def _reopen(self) -> None:
        """Take the lock, and open what is not."""
        self._lock.acquire()
        try:
            if self._opened is None:
                _forks.handles.add(self)
                self._opened = self._open()
        except BaseException:
            self._lock.release()
            raise

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    # -- around a fork ---------------------------------------------------------------------------

    def hold(self, seconds: float) -> bool:
        """Close it and let nobody use it; ``False`` if it is in use for so long."""
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            return False
        self._close()
        return True

    def let_go(self) -> None:
        """Undo :meth:`hold`."""
        self._lock.release()


class _Forks:
    """What happens to all handles when this process forks.

    The order of locks: ``_opening``, then those of handles. Who uses one never takes another.
    """

    def __init__(self) -> None:
        self.handles: Final[WeakSet[Handle]] = WeakSet()
        self._opening = threading.Lock()
        self._held: list[Handle] = []
        # Never freed in a child, since even closing them there would harm.
        self._in_use: list[Handle] = []
        self._in_time = True
        self._must_not_open = False

    def keep_out_while(self, open: Callable[[], None]) -> None:
        with self._opening:
            if self._must_not_open:
                raise StorageError(
                    "this process was forked while a transaction of its parent did not end, so it "
                    "cannot open a SQLite file safely: start it anew, or with multiprocessing's "
                    "'spawn' or 'forkserver'"
                )
            open()

    def before(self) -> None:
        give_up_at = time.monotonic() + FORK_SECONDS
        self._in_time = self._opening.acquire(timeout=FORK_SECONDS)
        for handle in list(self.handles):
            held = handle.hold(give_up_at - time.monotonic())
            (self._held if held else self._in_use).append(handle)

    def after_in_parent(self) -> None:
        for handle in self._held:
            handle.let_go()
        self._held.clear()
        self._in_use.clear()
        if self._in_time:
            self._opening.release()

    def after_in_child(self) -> None:
        self._opening = threading.Lock()
        for handle in (*self._held, *self._in_use):
            handle.inherited = True
        if self._in_use or not self._in_time:
            self._must_not_open = True
        self._held.clear()
        self.handles.clear()


def around_forks(
    before: Callable[[], None],
    after_in_parent: Callable[[], None],
    after_in_child: Callable[[], None],
) -> None:
    """Have these called around each fork of this process, where there is such a thing.

    Handles may still be used in ``before``, and again in the others.
    """
    if hasattr(os, "register_at_fork"):
        # The last one registered is called first before a fork, and last after it.
        os.register_at_fork(
            before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
        )


_forks: Final = _Forks()
around_forks(_forks.before, _forks.after_in_parent, _forks.after_in_child)
