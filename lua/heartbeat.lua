-- heartbeat: extend the leases that a worker still holds, and its own sign of life.
--
-- KEYS
--   job      prefix of the job hashes
--   leases   zset    running ids by deadline
--   workers  zset    workers by the time until which they count as alive
-- ARGV
--   1    injected time in ms, or ''
--   2    worker
--   3    lease in ms
--   4..  for each job: id, fence
-- RETURNS
--   { ids whose lease is lost, ids that are to be cancelled }
-- include: clock
-- flags: allow-oom
local job, leases, workers = KEYS[1], KEYS[2], KEYS[3]
local now = now_ms(ARGV[1])
local deadline = now + tonumber(ARGV[3])
local lost, cancelled, extended = {}, {}, {}
redis.call('ZADD', workers, 'GT', deadline, ARGV[2])
for at = 4, #ARGV, 2 do
  local id = ARGV[at]
  local found = redis.call('HMGET', job .. id, 'state', 'fence', 'cancel_value')
  if found[1] == 'running' and found[2] == ARGV[at + 1] then
    extended[#extended + 1], extended[#extended + 2] = deadline, id
    if found[3] then
      cancelled[#cancelled + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
if #extended > 0 then
  redis.call('ZADD', leases, 'XX', 'GT', unpack(extended))
end
return { lost, cancelled }
