"""Jobs in one SQLite file, for all processes of one machine."""

from jobqueue.storage.sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
