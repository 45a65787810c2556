"""Schedules: jobs that are enqueued again and again, at instants that a rule gives."""

from jobqueue.schedules.admin import PolicyOptions, QueueSchedules, ScheduleInfo
from jobqueue.schedules.record import Misfire, Overlap
from jobqueue.schedules.scheduler import Scheduler
from jobqueue.schedules.timing import Cron, Every

__all__ = [
    "Cron",
    "Every",
    "Misfire",
    "Overlap",
    "PolicyOptions",
    "QueueSchedules",
    "ScheduleInfo",
    "Scheduler",
]
