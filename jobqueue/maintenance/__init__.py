"""What keeps a queue healthy: small services, any number of which may run at once."""

from jobqueue.maintenance.periodic import Periodic
from jobqueue.maintenance.promoter import Promoter
from jobqueue.maintenance.pruner import Pruner
from jobqueue.maintenance.reaper import Reaper

__all__ = ["Periodic", "Promoter", "Pruner", "Reaper"]
