-- prune: drop the numbers of jobs that have expired.
--
-- KEYS
--   finished_completed  zset    numbers of ended jobs by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
-- RETURNS
--   how many were dropped
-- include: clock finished
-- flags: allow-oom
local now, left = now_ms(ARGV[1]), tonumber(ARGV[2])
local dropped = 0
for i = 1, 3 do
  local expired = redis.call('ZRANGEBYSCORE', KEYS[i], '(0', now, 'LIMIT', 0, left)
  local members, jobs = {}, 0
  for _, member in ipairs(expired) do
    local more = finished_jobs(member)
    if more > left then
      finished_change(KEYS[i], tonumber(string.match(member, '%d+')), -left)
      dropped, left = dropped + left, 0
      break
    end
    members[#members + 1] = member
    jobs, left = jobs + more, left - more
  end
  if #members > 0 then
    redis.call('ZREM', KEYS[i], unpack(members))
    redis.call('ZINCRBY', KEYS[i], jobs, 'total')
    dropped = dropped + jobs
  end
end
return dropped
