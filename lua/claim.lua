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
-- include: clock counts fences attempt events replies finished pieces lines scopes lanes delayed
-- include: ending upkeep
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

local function take_from_list()
  due_in = next_due(delayed, now)
  if due_in == 0 then
    promote(job, delayed, ready, counts, now, PROMOTED_AT_MOST)
    due_in = next_due(delayed, now)
  end
  take(inbox)
  take(ready)
  more = #ids == 0 and redis.call('EXISTS', ready) or 0
end

local function take_from_lines()
  local lines = lines_open(prefix, ready, counts)
  local lanes = lanes_open(prefix, job, counts, now, lines)
  local ending = ending_open({
    job = job, delayed = delayed, counts = counts, stale = stale, prefix = prefix, events = events,
    injected = ARGV[1], now = now, inline_bytes = tonumber(ARGV[8]), lines = lines, lanes = lanes,
  })
  -- What was handed over before the queue used any of this.
  for _, id in ipairs(redis.call('LRANGE', inbox, 0, -1)) do
    if id ~= '' then
      lines.push_head(id, PLAIN)
    end
  end
  redis.call('DEL', inbox)
  ending.expire(ARGV[7], PROMOTED_AT_MOST)
  promote(job, delayed, ready, counts, now, PROMOTED_AT_MOST, lines)
  lanes.wake_due()

  local settings = redis.call('HMGET', counts, 'paused', 'low_every', 'low_since')
  local low_every, low_since = tonumber(settings[2] or 0), tonumber(settings[3] or 0)
  local room = settings[1] and 0 or lanes.room('q')
  local enough = math.min(wanted, room)
  local low_waits = low_every > 0 and lines.waits(LOW)

  local function is_queued(id)
    if id ~= '' and redis.call('HGET', job .. id, 'state') == 'queued' then
      return true
    end
    redis.call('SREM', stale, id)
    return false
  end

  local function next_pointer()
    local asked = text(enough - #ids)
    if low_waits and low_since >= low_every - 1 then
      local id = lines.next(LOW, asked, is_queued)
      if id then
        return id
      end
    end
    for level = 0, LOW do
      local id = lines.next(level, asked, is_queued)
      if id then
        return id
      end
    end
  end

  -- Whether a job may start: it is charged to its limits then, or held back by one of them.
  local function may_start(id, name, flow)
    local mine = lanes.of(name, flow)
    for _, lane in ipairs(mine) do
      if lanes.room(lane) < 1 then
        lanes.hold(lane, id, flow)
        return false
      end
    end
    for _, lane in ipairs(mine) do
      lanes.start(lane)
    end
    return true
  end

  local id, too_large
  while #ids < enough and looked < POINTERS_AT_MOST do
    id = next_pointer()
    if not id then
      break
    end
    looked = looked + 1
    local key = job .. id
    local found = id ~= '' and read(id) or {}
    if found[1] ~= 'queued' or taken[id] then
      redis.call('SREM', stale, id)
    else
      local said = redis.call('HMGET', key, 'flow', 'flow1')
      local flow = flow_of(key, said[1], said[2])
      if #ids > 0 and size + #found[2] > max_bytes then
        too_large = flow
        break
      elseif flow[2] > 0 and not found[7] and found[5] + flow[2] <= now then
        ending.add(id, ending.read(id), ARGV[7], 0, true)
      elseif may_start(id, found[3], flow) then
        size = size + #found[2]
        ids[#ids + 1], rows[#rows + 1], taken[id] = id, found, true
        if flow[2] > 0 then
          redis.call('ZREM', prefix .. 'expiring', id)
        end
        if room < math.huge then
          lanes.start('q')
        end
        if flow[1] == LOW then
          low_since = 0
          low_waits = low_every > 0 and lines.waits(LOW)
        elseif low_waits then
          low_since = low_since + 1
        end
      end
    end
  end
  lines.put_back()
  if too_large then
    lines.push_head(id, too_large)
  end
  lanes.save()
  ending.save()
  if low_every > 0 then
    redis.call('HSET', counts, 'low_since', low_since)
  end
  if id and #ids < room and lines.waits() then
    -- Not all was looked at: somebody else may find something.
    lines.ticket()
  end
  due_in = next_step(prefix, delayed, now, lanes.queue_opens(lines.waits()))
  more = looked >= POINTERS_AT_MOST and 1 or 0
end

if told[2] then
  take_from_lines()
else
  take_from_list()
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
