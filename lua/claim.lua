-- claim: lease up to n jobs to a worker: first what BLMOVE put into its inbox, then from the list;
-- in a queue that uses time and flow from its lines, as far as limits let them.
-- A pointer is never a permission: a job is leased only if its hash says 'queued'.
--
-- KEYS
--   job        prefix of the job hashes
--   ready      list    ids waiting, head first
--   inbox      list    ids handed to this worker and not yet leased
--   delayed    zset    scheduled and retrying ids by due time
--   leases     zset    running ids by deadline
--   workers    zset    workers by the time until which they count as alive
--   claimed    hash    token, first fence and ids of the last claim of each worker
--   stale      set     ids with a pointer in the list that no longer counts
--   counts     hash    numbers: what waits, the fence counter, until when events are heard
--   events     channel
--   prefix     prefix of all keys, for what belongs to time and flow, indexes and replies
-- ARGV
--   1  injected time in ms, or ''
--   2  worker
--   3  jobs at most
--   4  token of this claim
--   5  lease in ms
--   6  bytes of specs at most
--   7  the error of a job that was not started in time
--   8  largest value in bytes that travels in a reply
-- RETURNS
--   { ms until something is to be done again (-1: nothing), 1 if pointers are left, jobs }
--   each job: id, name, spec, fence, attempt, enqueued_ms, ttl_ms
-- EVENTS
--   started, cancelled
-- include: clock counts fences attempt events pieces delayed
-- with flow: replies finished lines scopes rates lanes ending upkeep choosing
-- flags: allow-oom
local job, ready, inbox, delayed, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local workers, claimed, stale, counts = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local events_channel, prefix = KEYS[10], KEYS[11]
local now = now_ms(ARGV[1])
local now_text = text(now)
local worker, wanted, lease_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local deadline = text(now + lease_ms)
local max_bytes = tonumber(ARGV[6])
local POINTERS_AT_MOST = 2000
local PROMOTED_AT_MOST = 500
local token = ARGV[4] .. ' '

redis.call('ZADD', workers, deadline, worker)

local function read(id)
  local key = job .. id
  local found = redis.call(
    'HMGET', key, 'state', 'spec', 'name', 'attempt', 'enqueued_ms', 'ttl_ms', 'fence', 'spec1'
  )
  found[2] = pieces_join(key, 'spec', found[2], found[8])
  return found
end

local function reply_of(id, found, fence, attempt)
  return { id, found[3], found[2], fence, attempt, found[5], found[6] or '0' }
end

-- The worker did not hear the answer to its last claim: give it what it still holds.
local last = redis.call('HGET', claimed, worker)
if last and string.sub(last, 1, #token) == token then
  local first, ids = unpack(cmsgpack.unpack(string.sub(last, #token + 1)))
  local jobs = {}
  for i, id in ipairs(ids) do
    local found = read(id)
    if found[1] == 'running' and found[7] == text(first + i - 1) then
      local said = redis.call('HMGET', job .. id, 'flow', 'flow1')
      if said[1] then
        local kit = with_flow()
        if kit.flow_of(job .. id, said[1], said[2]) == kit.UNREADABLE then
          found[2] = ''
        end
      end
      jobs[#jobs + 1] = reply_of(id, found, found[7], attempt_of(found[4], found[7]))
    end
  end
  return { next_due(delayed, now), 0, jobs }
end

local told = redis.call('HMGET', counts, 'heard_until', 'flow')
local events = events_begin(told[1], now)
local ids, rows, taken, size, looked = {}, {}, {}, 0, 0
local due_in, more

-- Take from one list, head first, until there is enough; what is looked at leaves the list, but
-- what would be too much goes back.
local function take(list)
  while #ids < wanted and size < max_bytes and looked < POINTERS_AT_MOST do
    local asked = wanted - #ids
    local pointers = redis.call('LPOP', list, text(asked))
    if not pointers then
      return
    end
    for at, id in ipairs(pointers) do
      local found = id ~= '' and read(id) or {}
      if found[1] == 'queued' and not taken[id] then
        if #ids > 0 and size + #found[2] > max_bytes then
          for left = #pointers, at, -1 do
            redis.call('LPUSH', list, pointers[left])
          end
          size = max_bytes
          break
        end
        size = size + #found[2]
        ids[#ids + 1], rows[#rows + 1], taken[id] = id, found, true
      elseif id ~= '' then
        redis.call('SREM', stale, id)
      end
    end
    looked = looked + #pointers
    if #pointers < asked then
      return
    end
  end
end

if told[2] then
  due_in, more = with_flow().choose({
    job = job, ready = ready, inbox = inbox, delayed = delayed, counts = counts, stale = stale,
    prefix = prefix, events = events, injected = ARGV[1], now = now, expired = ARGV[7],
    inline_bytes = tonumber(ARGV[8]), wanted = wanted, max_bytes = max_bytes,
    pointers_at_most = POINTERS_AT_MOST, promoted_at_most = PROMOTED_AT_MOST, ids = ids,
    rows = rows,
  })
else
  due_in = next_due(delayed, now)
  if due_in == 0 then
    promote(job, delayed, ready, counts, now, PROMOTED_AT_MOST)
    due_in = next_due(delayed, now)
  end
  take(inbox)
  take(ready)
  more = #ids == 0 and redis.call('EXISTS', ready) or 0
end
if #ids == 0 then
  events_publish(events_channel, events)
  return { due_in, more, {} }
end

local first = fences_draw(counts, #ids, now)
local jobs, deadlines = {}, {}
for i, id in ipairs(ids) do
  local found, fence = rows[i], first + i - 1
  local attempt = attempt_of(found[4], found[7]) + 1
  redis.call(
    'HSET', job .. id, 'state', 'running', 'fence', text(fence), 'worker', worker,
    'started_ms', now_text
  )
  if found[7] then
    -- The claim before this one; finish may have to tell a repeat of its outcome from a stale one.
    redis.call('HSET', job .. id, 'attempt', attempt, 'settled_fence', found[7])
  end
  deadlines[2 * i - 1], deadlines[2 * i] = deadline, id
  jobs[i] = reply_of(id, found, fence, attempt)
  events_add(events, 'started', id, found[3], now, attempt, worker)
end
redis.call('ZADD', leases, unpack(deadlines))
redis.call('HSET', claimed, worker, token .. cmsgpack.pack({ first, ids }))
count(counts, { queued = -#ids })
events_publish(events_channel, events)
return { due_in, 0, jobs }
