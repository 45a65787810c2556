-- obliterate: forget jobs of any state as if they had never been; when there are none, the rest.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   leases              zset    running ids by deadline
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   stale               set     ids with a pointer in the list that no longer counts
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
-- RETURNS
--   how many were forgotten
-- include: clock pieces lines scopes rates lanes waiting
-- flags: allow-oom
local job, ready, delayed, leases, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local stale, prefix = KEYS[6], KEYS[10]
local finished = { completed = KEYS[7], failed = KEYS[8], cancelled = KEYS[9] }
local limit, forgotten, freed = tonumber(ARGV[2]), 0, {}
local lines = lines_open(prefix, ready, counts)
local lanes = lanes_open(prefix, job, counts, now_ms(ARGV[1]), lines)

local function forget(ids)
  for _, id in ipairs(ids) do
    local key = job .. id
    local found = redis.call('HMGET', key, 'state', 'flow', 'flow1', 'name')
    local state = found[1]
    if state then
      local flow = flow_of(key, found[2], found[3])
      if state == 'running' then
        lanes.count(freed, found[4], flow)
      elseif state == 'queued' or state == 'scheduled' or state == 'retrying' then
        redis.call('HINCRBY', counts, state, -1)
      end
      if not finished[state] and flow ~= PLAIN then
        flow_ended(prefix, id, flow, 1)
        redis.call('HINCRBY', counts, 'flowing', -1)
      end
      flow_forgotten(prefix, id, flow)
      redis.call('DEL', key)
      forgotten = forgotten + 1
    end
  end
end

local function forget_from(index)
  local ids = redis.call('ZRANGE', index, 0, limit - forgotten - 1)
  if #ids > 0 then
    forget(ids)
    redis.call('ZREM', index, unpack(ids))
  end
end

local places = { ready = ready, delayed = delayed, stale = stale, prefix = prefix }
repeat
  local ids = waiting(places, limit)
  if #ids > 0 then
    forget(ids)
    redis.call('ZREM', delayed, unpack(ids))
  end
until #ids == 0 or forgotten > 0
for _, index in ipairs({ leases, finished.completed, finished.failed, finished.cancelled }) do
  if forgotten < limit then
    forget_from(index)
  end
end
lanes.release(freed)
if forgotten > 0 then
  return forgotten
end
for _, name in ipairs({
  'normal', 'high', 'low', 'turns:high', 'turns:normal', 'turns:low', 'limits', 'busy', 'held',
  'woken:high', 'woken:normal', 'woken:low', 'wakes', 'expiring', 'schedules', 'schedules_due',
}) do
  redis.call('DEL', prefix .. name)
end
redis.call('DEL', ready, delayed, leases, stale)
redis.call(
  'HDEL', counts, 'flow', 'flowing', 'limits', 'paused', 'draining', 'max_waiting', 'low_every',
  'low_since', 'sequence', 'heading', 'order', 'queued', 'scheduled', 'retrying'
)
return 0
