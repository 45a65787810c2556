-- counts: the exact number of jobs in each state.
--
-- KEYS
--   counts              hash    exact numbers, and the fence counter
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
-- ARGV
--   1  injected time in ms, or ''
-- RETURNS
--   scheduled, queued, running, retrying, completed, failed, cancelled
-- include: clock
local counts = KEYS[1]
local after_now = '(' .. string.format('%.0f', now_ms(ARGV[1]))
local answer = redis.call('HMGET', counts, 'scheduled', 'queued', 'running', 'retrying')
for i = 1, 4 do
  answer[i] = tonumber(answer[i]) or 0
end
for i = 2, 4 do
  answer[#answer + 1] = redis.call('ZCOUNT', KEYS[i], after_now, '+inf')
end
return answer
