"""The consuming side: what claims, what runs one job, what keeps leases, what settles outcomes."""

from jobqueue.consumer.consumer import Consumer

__all__ = ["Consumer"]
