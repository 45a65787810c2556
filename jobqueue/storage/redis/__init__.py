"""Jobs on Redis or Valkey, for every machine that reaches the server."""

from jobqueue.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
