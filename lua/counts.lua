-- counts: the exact number of jobs in each state.
--
-- KEYS
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   leases              zset    running ids by deadline
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
-- ARGV
--   1  injected time in ms, or ''
-- RETURNS
--   scheduled, queued, running, retrying, completed, failed, cancelled
-- include: clock
local counts, leases = KEYS[1], KEYS[2]
local after_now = '(' .. text(now_ms(ARGV[1]))
local scheduled, queued, retrying =
  unpack(redis.call('HMGET', counts, 'scheduled', 'queued', 'retrying'))
local answer = {
  tonumber(scheduled) or 0, tonumber(queued) or 0, redis.call('ZCARD', leases),
  tonumber(retrying) or 0,
}
for i = 3, 5 do
  answer[#answer + 1] = redis.call('ZCOUNT', KEYS[i], after_now, '+inf')
end
return answer
