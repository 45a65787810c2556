-- enqueue: store each job whose id is new; report the others.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   finished_cancelled  zset    cancelled ids by expiry
--   stale               set     ids with a pointer in the list that no longer counts
--   events              channel
-- ARGV
--   1      injected time in ms, or ''
--   2      largest value in bytes that travels in an answer
--   3      msgpack array of jobs: { id, name, spec, delay_ms, due_ms, ttl_ms (0: none), request,
--          reply_to }
-- RETURNS
--   for each job: status, state, value or nil
-- EVENTS
--   enqueued
-- include: clock counts events replies delayed pieces
local job, ready, delayed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished_cancelled, stale, events_channel = KEYS[5], KEYS[6], KEYS[7]
local now = now_ms(ARGV[1])
local now_text = text(now)
local inline_bytes = tonumber(ARGV[2])

local answers, pointers, due_entries = {}, {}, {}
local changes = { queued = 0, scheduled = 0 }
local events = events_begin(counts, now)

local STORED = {
  queued = { 'queued', 'queued', false }, scheduled = { 'queued', 'scheduled', false },
}

local function answer(status, state, value)
  answers[#answers + 1] = { status, state, value }
end

local function store(key, new)
  local id, name, spec, delay_ms, due_ms, ttl_ms, request, reply_to = unpack(new)
  if delay_ms ~= 0 then
    due_ms = now + delay_ms
  end
  local state = due_ms > now and 'scheduled' or 'queued'
  local fields = {
    'state', state, 'name', name, 'enqueued_ms', now_text, pieces('spec', spec),
  }
  if ttl_ms ~= 0 then
    fields[#fields + 1], fields[#fields + 2] = 'ttl_ms', ttl_ms
  end
  if request ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'request', request
  end
  if reply_to ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'reply_to', reply_to
  end
  if state == 'scheduled' then
    fields[#fields + 1], fields[#fields + 2] = 'due_ms', due_ms
    due_entries[#due_entries + 1], due_entries[#due_entries + 2] = due_ms, id
  else
    pointers[#pointers + 1] = id
  end
  redis.call('HSET', key, unpack(fields))
  -- Not before that: the server looks at its memory at the first write, and lets a command pass
  -- that takes none.
  if request ~= '' and redis.call('SREM', stale, id) == 1 then
    -- The pointer of a cancelled predecessor would give this job a place ahead of its turn.
    redis.call('LREM', ready, 1, id)
  end
  changes[state] = changes[state] + 1
  events_add(events, 'enqueued', id, name, now, 0, '')
  answers[#answers + 1] = STORED[state]
end

for _, new in ipairs(cmsgpack.unpack(ARGV[3])) do
  local id, request, reply_to = new[1], new[7], new[8]
  local key = job .. id
  local state = redis.call('HGET', key, 'state')
  if not state then
    store(key, new)
  elseif (redis.call('HGET', key, 'request') or '') == request then
    answer('queued', state, false)
  elseif state == 'cancelled' then
    local cancel_request = redis.call('HGET', key, 'cancel_request')
    redis.call('DEL', key)
    redis.call('ZREM', finished_cancelled, id)
    store(key, new)
    if cancel_request then
      -- That cancel may come once more; it is not this job's.
      redis.call('HSET', key, 'cancel_request', cancel_request)
    end
  elseif state == 'completed' or state == 'failed' then
    local value = redis.call('HSTRLEN', key, 'value') <= inline_bytes and pieces_value(key)
    answer(state == 'completed' and 'completed' or 'duplicate', state, value)
  else
    replies_remember(key, redis.call('HGET', key, 'reply_to') or '', reply_to)
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
