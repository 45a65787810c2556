-- cancel: end what waits, request a stop of what runs.
--
-- KEYS
--   job                 prefix of the job hashes
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   finished_cancelled  zset    cancelled ids by expiry
--   stale               set     ids with a pointer in the list that no longer counts
--   events              channel
--   control             channel on which workers hear of cancel requests
--   reply               prefix of the reply channels
-- ARGV
--   1    injected time in ms, or ''
--   2    ms to keep a cancelled job that says nothing itself
--   3    the error that it keeps
--   4    largest value in bytes that travels in a reply
--   5    token of this cancel
--   6..  ids
-- RETURNS
--   for each id: 'cancelled', 'not_found', 'running' or 'finished'
-- EVENTS
--   cancelled
-- include: clock counts attempt events replies finished pieces
-- flags: allow-oom
local job, delayed, counts, finished_cancelled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local stale, events_channel, control, reply_prefix = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local now = now_ms(ARGV[1])
local default_ttl_ms, value, inline_bytes, request = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local answers, requested, entries, reply_batches = {}, {}, {}, {}
local longest = 0
local changes = { queued = 0, scheduled = 0, retrying = 0 }
local events = events_begin(counts, now)

local function end_waiting(id, key, found)
  local state, ttl_ms = found[1], tonumber(found[2] or default_ttl_ms)
  redis.call('HDEL', key, 'reply_to', 'due_ms', 'value1', 'value2', 'value3')
  redis.call(
    'HSET', key, 'state', 'cancelled', 'ttl_ms', ttl_ms, 'finished_ms', now, 'kept_ms', ttl_ms,
    'cancel_request', request, pieces('value', value)
  )
  local expire, argument = expiry(ARGV[1], now, ttl_ms)
  redis.call(expire, key, argument)
  if state == 'queued' then
    redis.call('SADD', stale, id)
  else
    redis.call('ZREM', delayed, id)
  end
  changes[state] = changes[state] - 1
  entries[#entries + 1], entries[#entries + 2] = now + ttl_ms, id
  longest = math.max(longest, ttl_ms)
  replies_add(reply_batches, reply_prefix, found[4] or '', id, 'cancelled', value, inline_bytes)
  events_add(events, 'cancelled', id, found[3], now, attempt_of(found[5], found[6]), '')
end

for at = 6, #ARGV do
  local id = ARGV[at]
  local key = job .. id
  local found = redis.call(
    'HMGET', key, 'state', 'ttl_ms', 'name', 'reply_to', 'attempt', 'fence', 'cancel_request',
    'cancel_value'
  )
  local state = found[1]
  if not state then
    answers[#answers + 1] = 'not_found'
  elseif found[7] == request then
    -- The caller did not hear the answer: what it was can be told from what was written.
    answers[#answers + 1] = found[8] and 'running' or 'cancelled'
  elseif state == 'running' then
    if not found[8] then
      redis.call('HSETNX', key, 'ttl_ms', default_ttl_ms)
      redis.call('HSET', key, 'cancel_value', value, 'cancel_request', request)
    end
    requested[#requested + 1] = id
    answers[#answers + 1] = 'running'
  elseif changes[state] then
    end_waiting(id, key, found)
    answers[#answers + 1] = 'cancelled'
  else
    answers[#answers + 1] = 'finished'
  end
end

finished_index(finished_cancelled, entries, longest)
count(counts, changes)
if #requested > 0 then
  redis.call('PUBLISH', control, cmsgpack.pack(requested))
end
replies_publish(reply_batches)
events_publish(events_channel, events)
return answers
