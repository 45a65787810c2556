-- listen: say that somebody hears this queue's events for a while, or no longer does.
--
-- KEYS
--   listeners  zset  who hears events, by the time until which
-- ARGV
--   1  injected time in ms, or ''
--   2  listener
--   3  ms for which it listens, '0' to stop
-- include: clock
local listeners = KEYS[1]
local now, for_ms = now_ms(ARGV[1]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', listeners, '-inf', now)
if for_ms == 0 then
  return redis.call('ZREM', listeners, ARGV[2])
end
redis.call('ZADD', listeners, now + for_ms, ARGV[2])
return redis.call('PEXPIRE', listeners, for_ms)
