-- recover: take over leases that ran out, and name the workers that are dead.
--
-- KEYS
--   job        prefix of the job hashes
--   leases     zset    running ids by deadline
--   workers    zset    workers by the time until which they count as alive
--   counts     hash    numbers: what waits, the fence counter, until when events are heard
--   events     channel
-- ARGV
--   1  injected time in ms, or ''
--   2  reaper, who holds the jobs from now on
--   3  jobs at most
--   4  lease in ms
--   5  bytes of specs at most
-- RETURNS
--   { jobs, dead workers }
--   each job: id, name, spec, fence, attempt, enqueued_ms, ttl_ms, 1 if cancelled, who lost it
-- EVENTS
--   stalled
-- include: clock attempt events pieces
-- flags: allow-oom
local job, leases, workers, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local events_channel = KEYS[5]
local now = now_ms(ARGV[1])
local reaper, lease_ms, max_bytes = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local events = events_begin(counts, now)
local jobs, size = {}, 0

local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(expired) do
  local key = job .. id
  local found = redis.call(
    'HMGET', key, 'state', 'spec', 'name', 'attempt', 'enqueued_ms', 'ttl_ms', 'cancel_value',
    'worker', 'spec1', 'fence'
  )
  if found[1] ~= 'running' then
    redis.call('ZREM', leases, id)
  elseif size < max_bytes then
    local spec = pieces_join(key, 'spec', found[2], found[9])
    size = size + #spec
    local attempt = attempt_of(found[4], found[10])
    local fence = redis.call('HINCRBY', counts, 'fence', 1)
    redis.call('HSET', key, 'fence', fence, 'worker', reaper)
    redis.call('ZADD', leases, now + lease_ms, id)
    jobs[#jobs + 1] = {
      id, found[3], spec, fence, attempt, found[5], found[6] or '0',
      found[7] and '1' or '0', found[8],
    }
    events_add(events, 'stalled', id, found[3], now, attempt, found[8])
  end
end
events_publish(events_channel, events)
return { jobs, redis.call('ZRANGEBYSCORE', workers, '-inf', now, 'LIMIT', 0, 100) }
