-- recover: take over leases that ran out, and name the workers that are dead.
--
-- KEYS
--   job        prefix of the job hashes
--   leases     zset    running ids by deadline
--   workers    zset    workers by the time until which they count as alive
--   claimed    hash    token, first fence and ids of the last claim of each worker or reaper
--   counts     hash    numbers: what waits, the fence counter, until when events are heard
--   events     channel
-- ARGV
--   1  injected time in ms, or ''
--   2  reaper, who holds the jobs from now on
--   3  jobs at most
--   4  lease in ms
--   5  bytes of specs at most
--   6  token of this recovery
-- RETURNS
--   { jobs, dead workers }
--   each job: id, name, spec, fence, attempt, enqueued_ms, ttl_ms, 1 if cancelled, who lost it
-- EVENTS
--   stalled
-- include: clock fences attempt events pieces
-- flags: allow-oom
local job, leases, workers, claimed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events_channel = KEYS[6]
local now = now_ms(ARGV[1])
local reaper, lease_ms, max_bytes = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local token = ARGV[6] .. ' '
local jobs, size = {}, 0

local function read(id)
  local key = job .. id
  local found = redis.call(
    'HMGET', key, 'state', 'spec', 'name', 'attempt', 'enqueued_ms', 'ttl_ms', 'cancel_value',
    'worker', 'fence', 'spec1'
  )
  found[2] = pieces_join(key, 'spec', found[2], found[10])
  return found
end

local function add(id, found, fence, attempt, lost_by)
  jobs[#jobs + 1] = {
    id, found[3], found[2], fence, attempt, found[5], found[6] or '0', found[7] and '1' or '0',
    lost_by,
  }
end

local dead = redis.call('ZRANGEBYSCORE', workers, '-inf', now, 'LIMIT', 0, 100)

-- The reaper did not hear the answer to its last recovery: give it what it still holds.
local last = redis.call('HGET', claimed, reaper)
if last and string.sub(last, 1, #token) == token then
  local first, ids, losers = unpack(cmsgpack.unpack(string.sub(last, #token + 1)))
  for i, id in ipairs(ids) do
    local found = read(id)
    if found[1] == 'running' and found[9] == text(first + i - 1) then
      add(id, found, found[9], attempt_of(found[4], found[9]), losers[i])
    end
  end
  return { jobs, dead }
end

local events = events_begin(redis.call('HGET', counts, 'heard_until'), now)
local ids, losers, first = {}, {}, nil
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local found = read(id)
  if found[1] ~= 'running' then
    redis.call('ZREM', leases, id)
  elseif size < max_bytes then
    size = size + #found[2]
    local attempt, lost_by = attempt_of(found[4], found[9]), found[8]
    local fence = fences_draw(counts, 1, now)
    first = first or fence
    redis.call('HSET', job .. id, 'fence', text(fence), 'worker', reaper)
    redis.call('ZADD', leases, now + lease_ms, id)
    ids[#ids + 1], losers[#losers + 1] = id, lost_by
    add(id, found, fence, attempt, lost_by)
    events_add(events, 'stalled', id, found[3], now, attempt, lost_by)
  end
end
if first then
  -- As a worker's claim, it is forgotten some time after the sign of life that came with it.
  redis.call('HSET', claimed, reaper, token .. cmsgpack.pack({ first, ids, losers }))
  redis.call('ZADD', workers, 'GT', now + lease_ms, reaper)
end
events_publish(events_channel, events)
return { jobs, dead }
