-- prune: drop ids of jobs that have expired from the indexes of what has ended.
--
-- KEYS
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
-- ARGV
--   1  injected time in ms, or ''
--   2  ids at most
-- RETURNS
--   how many were dropped
-- include: clock
-- flags: allow-oom
local now = now_ms(ARGV[1])
local dropped = 0
for i = 1, 3 do
  local limit = tonumber(ARGV[2]) - dropped
  local ids = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, limit)
  if #ids > 0 then
    dropped = dropped + redis.call('ZREM', KEYS[i], unpack(ids))
  end
end
return dropped
