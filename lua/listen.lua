-- listen: say that somebody hears this queue's events for a while, or no longer does.
--
-- KEYS
--   listeners  zset  who hears events, by the time until which
--   counts     hash  numbers: what waits, the fence counter, until when events are heard
-- ARGV
--   1  injected time in ms, or ''
--   2  listener
--   3  ms for which it listens, '0' to stop
-- include: clock
local listeners, counts = KEYS[1], KEYS[2]
local now, for_ms = now_ms(ARGV[1]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', listeners, '-inf', now)
if for_ms == 0 then
  redis.call('ZREM', listeners, ARGV[2])
else
  redis.call('ZADD', listeners, now + for_ms, ARGV[2])
  redis.call('PEXPIRE', listeners, for_ms)
end
local latest = redis.call('ZRANGE', listeners, -1, -1, 'WITHSCORES')[2]
redis.call('HSET', counts, 'heard_until', latest or 0)
