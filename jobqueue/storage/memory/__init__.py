"""Jobs in plain dicts, for one process: tests, examples, and work that may be lost with it."""

from jobqueue.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]
