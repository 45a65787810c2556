-- finish: apply each outcome whose fence still holds the lease.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   leases              zset    running ids by deadline
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
--   events              channel
--   reply               prefix of the reply channels
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1    injected time in ms, or ''
--   2    worker
--   3    largest value in bytes that travels in a reply
--   4    msgpack array of outcomes: { id, fence (text), state, event, refund (1 or 0), delay_ms,
--        value, ttl_ms }
--   5    for how many ms the worker, idle now, offers to take a job at once; absent: it does not
--   6    under what lease in ms; absent likewise
-- RETURNS
--   for each job: 1 if the outcome counts, 0 if the lease was lost
-- EVENTS
--   the event of each outcome
-- include: clock counts attempt events replies finished pieces delayed offers
-- with flow: lines scopes rates lanes
-- flags: allow-oom
local job, ready, delayed, leases, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local finished = { completed = KEYS[6], failed = KEYS[7], cancelled = KEYS[8] }
local events_channel, reply_prefix, prefix = KEYS[9], KEYS[10], KEYS[11]
local now = now_ms(ARGV[1])
local now_text = text(now)
local worker, inline_bytes = ARGV[2], tonumber(ARGV[3])

local answers, settled, released, due_entries = {}, {}, {}, {}
local ended = { completed = {}, failed = {}, cancelled = {} }
local longest = { completed = 0, failed = 0, cancelled = 0 }
local changes = { queued = 0, scheduled = 0, retrying = 0, flowing = 0 }
local reply_batches = {}
local kept_for = {}
local heard_until, uses_flow, last_fence =
  unpack(redis.call('HMGET', counts, 'heard_until', 'flow', 'fence'))
local events = events_begin(heard_until, now)
local kit = uses_flow and with_flow()
local lines = kit and kit.lines_open(prefix, ready, counts)
local lanes = kit and kit.lanes_open(prefix, job, counts, now, lines)
local freed, flows = {}, {}

local function write_end(key, state, kept, ...)
  redis.call('HSET', key, 'state', state, 'finished_ms', now_text, 'kept_ms', kept.ms, ...)
end

local function finish(id, key, state, value, ttl_ms, addresses)
  local kept = kept_for[ttl_ms]
  if not kept then
    local command, argument = expiry(ARGV[1], now, ttl_ms)
    kept = {
      ms = text(ttl_ms), until_ms = text(now + ttl_ms), command = command, argument = argument,
    }
    kept_for[ttl_ms] = kept
  end
  if addresses then
    replies_add(reply_batches, reply_prefix, addresses, id, state, value, inline_bytes)
    write_end(key, state, kept, 'reply_to', '', pieces('value', value))
  else
    write_end(key, state, kept, pieces('value', value))
  end
  redis.call(kept.command, key, kept.argument)
  local entries = ended[state]
  entries[#entries + 1], entries[#entries + 2] = kept.until_ms, id
  longest[state] = math.max(longest[state], ttl_ms)
end

local function give_back(id, key, state, value, delay_ms)
  redis.call('HSET', key, 'state', state, pieces('value', value))
  redis.call('HDEL', key, 'worker')
  changes[state] = changes[state] + 1
  if state == 'queued' then
    released[#released + 1] = id
  else
    redis.call('HSET', key, 'due_ms', now + delay_ms)
    due_entries[#due_entries + 1], due_entries[#due_entries + 2] = now + delay_ms, id
  end
end

for _, outcome in ipairs(cmsgpack.unpack(ARGV[4])) do
  local id, fence, state, event, refund, delay_ms, value, ttl_ms = unpack(outcome)
  local key = job .. id
  local found = lines
    and redis.call(
      'HMGET', key, 'state', 'fence', 'settled_fence', 'reply_to', 'name', 'flow', 'flow1'
    )
    or redis.call('HMGET', key, 'state', 'fence', 'settled_fence', 'reply_to')
  if found[1] == 'running' and found[2] == fence then
    if refund ~= 0 then
      local attempt = attempt_of(redis.call('HGET', key, 'attempt'), fence)
      redis.call('HSET', key, 'attempt', attempt - refund)
    end
    if found[3] then
      -- Settled before, as for a retry: of that error no piece may remain.
      redis.call('HDEL', key, 'value1', 'value2', 'value3')
    end
    if not finished[state] then
      local cancel = redis.call('HMGET', key, 'cancel_value', 'ttl_ms')
      if cancel[1] then
        state, event, value, ttl_ms = 'cancelled', 'cancelled', cancel[1], tonumber(cancel[2])
      end
    end
    if lines then
      local flow = kit.flow_of(key, found[6], found[7])
      flows[id] = flow
      lanes.count(freed, found[5], flow)
      if finished[state] and flow ~= kit.PLAIN then
        kit.flow_ended(prefix, id, flow, ttl_ms)
        changes.flowing = changes.flowing - 1
      end
    end
    if finished[state] then
      finish(id, key, state, value, ttl_ms, found[4])
    else
      give_back(id, key, state, value, delay_ms)
    end
    settled[#settled + 1] = id
    answers[#answers + 1] = 1
    if events then
      local told = redis.call('HMGET', key, 'name', 'attempt')
      events_add(events, event, id, told[1], now, attempt_of(told[2], fence), worker)
    end
  else
    -- The claim that settled the job last: the one before, while another runs it.
    local last = found[1] == 'running' and found[3] or found[2]
    answers[#answers + 1] = last == fence and 1 or 0
  end
end

if #settled > 0 then
  redis.call('ZREM', leases, unpack(settled))
  for state, key in pairs(finished) do
    finished_index(key, ended[state], longest[state])
  end
  if lines then
    if #released > 0 then
      lines.push_heads(released, flows)
      lines.ticket()
    end
    lanes.release(freed)
  else
    for i = #released, 1, -1 do
      redis.call('LPUSH', ready, released[i])
    end
  end
  delay(delayed, ready, due_entries)
  count(counts, changes)
  if ARGV[6] and last_fence and not uses_flow then
    redis.call('HSET', counts, 'offer', offer_made(now, ARGV[5], ARGV[6], last_fence, worker))
  end
  replies_publish(reply_batches)
  events_publish(events_channel, events)
end
return answers
