-- counts: the exact number of jobs in each state.
--
-- KEYS
--   counts              hash    exact numbers, and the fence counter
--   finished_completed  zset    numbers of ended jobs by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
-- ARGV
--   1  injected time in ms, or ''
-- RETURNS
--   scheduled, queued, running, retrying, completed, failed, cancelled
-- include: clock finished
local counts, now = KEYS[1], now_ms(ARGV[1])
local answer = redis.call('HMGET', counts, 'scheduled', 'queued', 'running', 'retrying')
for i = 1, 4 do
  answer[i] = tonumber(answer[i]) or 0
end
for i = 2, 4 do
  local jobs = -tonumber(redis.call('ZSCORE', KEYS[i], 'total') or 0)
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], '(0', now)) do
    jobs = jobs - finished_jobs(expired)
  end
  answer[#answer + 1] = jobs
end
return answer
