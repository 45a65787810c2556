-- enqueue: store each job whose id is new; report the others.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    exact numbers, and the fence counter
--   finished_cancelled  zset    cancelled ids by expiry
--   stale               set     ids with a pointer in the list that no longer counts
--   listeners           zset    who hears events, by the time until which
--   events              channel
-- ARGV
--   1      injected time in ms, or ''
--   2      largest value in bytes that travels in an answer
--   3..    for each job: id, name, spec, delay_ms, due_ms, ttl_ms ('0': none), request, reply_to
-- RETURNS
--   for each job: status, state, value or nil
-- EVENTS
--   enqueued
-- include: clock counts events replies delayed pieces
local job, ready, delayed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished_cancelled, stale, listeners, events_channel = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local now = now_ms(ARGV[1])
local inline_bytes = tonumber(ARGV[2])

local answers, pointers, due_entries = {}, {}, {}
local changes = { queued = 0, scheduled = 0 }
local events = events_begin(listeners, now)
local some_are_stale = redis.call('EXISTS', stale) == 1

local function answer(status, state, value)
  answers[#answers + 1] = { status, state, value }
end

local function store(key, at)
  if some_are_stale and redis.call('SREM', stale, ARGV[at]) == 1 then
    -- The pointer of a cancelled predecessor would give this job a place ahead of its turn.
    redis.call('LREM', ready, 1, ARGV[at])
  end
  local id, name, delay_ms, due_ms = ARGV[at], ARGV[at + 1], ARGV[at + 3], tonumber(ARGV[at + 4])
  if delay_ms ~= '0' then
    due_ms = now + tonumber(delay_ms)
  end
  local state = due_ms > now and 'scheduled' or 'queued'
  local fields = { 'state', state, 'name', name, 'enqueued_ms', now }
  pieces_add(fields, 'spec', ARGV[at + 2])
  if ARGV[at + 5] ~= '0' then
    fields[#fields + 1], fields[#fields + 2] = 'ttl_ms', ARGV[at + 5]
  end
  if ARGV[at + 6] ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'request', ARGV[at + 6]
  end
  if ARGV[at + 7] ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'reply_to', ARGV[at + 7]
  end
  if state == 'scheduled' then
    fields[#fields + 1], fields[#fields + 2] = 'due_ms', due_ms
    due_entries[#due_entries + 1], due_entries[#due_entries + 2] = due_ms, id
  else
    pointers[#pointers + 1] = id
  end
  redis.call('HSET', key, unpack(fields))
  changes[state] = changes[state] + 1
  events_add(events, 'enqueued', id, name, now, 0, '')
  answer('queued', state, false)
end

for at = 3, #ARGV, 8 do
  local key = job .. ARGV[at]
  local found = redis.call('HMGET', key, 'state', 'request', 'reply_to')
  local state = found[1]
  if not state then
    store(key, at)
  elseif (found[2] or '') == ARGV[at + 6] then
    answer('queued', state, false)
  elseif state == 'cancelled' then
    redis.call('DEL', key)
    redis.call('ZREM', finished_cancelled, ARGV[at])
    store(key, at)
  elseif state == 'completed' or state == 'failed' then
    local value = redis.call('HSTRLEN', key, 'value') <= inline_bytes and pieces_value(key)
    answer(state == 'completed' and 'completed' or 'duplicate', state, value)
  else
    replies_remember(key, found[3] or '', ARGV[at + 7])
    answer('duplicate', state, false)
  end
end

if #pointers > 0 then
  redis.call('RPUSH', ready, unpack(pointers))
end
delay(delayed, ready, due_entries)
count(counts, changes)
events_publish(events_channel, events)
return answers
