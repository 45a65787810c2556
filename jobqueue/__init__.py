"""A distributed job queue on Redis, Valkey, SQLite or memory.

Everything that is public stands here; the rest of the package is free to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobqueue._version import __version__
from jobqueue.admin import QueueControl
from jobqueue.consumer import Consumer
from jobqueue.control import Cancel, Retry, Snooze
from jobqueue.errors import (
    AccessDenied,
    ConfigurationError,
    DrainTimeout,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobQueueError,
    LeaseLost,
    NotAccepted,
    QueueDraining,
    QueueFull,
    ScheduleNotFound,
    SerializationError,
    ServerNotTrusted,
    StorageError,
    StorageUnavailable,
    WaitTimeout,
)
from jobqueue.flow import Priority
from jobqueue.health import Health, HealthState
from jobqueue.hooks import Execution
from jobqueue.job import Event, Job, JobInfo, current_job
from jobqueue.jobtype import JobType
from jobqueue.limits import Limit, LimitInfo, Rate
from jobqueue.maintenance import Reaper
from jobqueue.options import JobOptions, QueueOptions
from jobqueue.producer import Producer
from jobqueue.queue import Queue
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.retry import Exponential, Fixed, Immediate, Linear
from jobqueue.schedules import Cron, Every, Misfire, Overlap, ScheduleInfo
from jobqueue.serde import JsonSerde, MsgpackSerde, Serde
from jobqueue.states import (
    CancelResult,
    EnqueueStatus,
    EventType,
    JobState,
    RescheduleResult,
    TtlResult,
)
from jobqueue.storage.base import Storage
from jobqueue.sync import SyncQueue
from jobqueue.syncclient import SyncEventStream, SyncReceipt
from jobqueue.uniqueness import Debounce, KeepLast, Throttle, Unique
from jobqueue.worker import Worker

if TYPE_CHECKING:
    from jobqueue.storage.memory import MemoryStorage
    from jobqueue.storage.redis import RedisStorage
    from jobqueue.storage.sqlite import SQLiteStorage

__all__ = [
    "AccessDenied",
    "Cancel",
    "CancelResult",
    "ConfigurationError",
    "Consumer",
    "Cron",
    "Debounce",
    "DrainTimeout",
    "EnqueueStatus",
    "Event",
    "EventType",
    "Every",
    "Execution",
    "Exponential",
    "Fixed",
    "Health",
    "HealthState",
    "Immediate",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobOptions",
    "JobQueueError",
    "JobSpec",
    "JobState",
    "JobType",
    "JsonSerde",
    "KeepLast",
    "LeaseLost",
    "Limit",
    "LimitInfo",
    "Linear",
    "MemoryStorage",
    "Misfire",
    "MsgpackSerde",
    "NotAccepted",
    "Overlap",
    "Priority",
    "Producer",
    "Queue",
    "QueueControl",
    "QueueDraining",
    "QueueFull",
    "QueueOptions",
    "Rate",
    "Reaper",
    "Receipt",
    "RedisStorage",
    "RescheduleResult",
    "Retry",
    "SQLiteStorage",
    "ScheduleInfo",
    "ScheduleNotFound",
    "Serde",
    "SerializationError",
    "ServerNotTrusted",
    "Snooze",
    "Storage",
    "StorageError",
    "StorageUnavailable",
    "SyncEventStream",
    "SyncQueue",
    "SyncReceipt",
    "Throttle",
    "TtlResult",
    "Unique",
    "WaitTimeout",
    "Worker",
    "__version__",
    "current_job",
]

_STORAGES = {
    "MemoryStorage": "jobqueue.storage.memory",
    "RedisStorage": "jobqueue.storage.redis",
    "SQLiteStorage": "jobqueue.storage.sqlite",
}


def __getattr__(name: str) -> Any:
    """Load a storage, and its libraries, when it is first asked for."""
    module = _STORAGES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(module), name)
