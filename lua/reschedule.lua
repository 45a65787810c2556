-- reschedule: give jobs that wait for a time another one.
--
-- KEYS
--   job      prefix of the job hashes
--   ready    list    ids waiting, head first
--   delayed  zset    scheduled and retrying ids by due time
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1    injected time in ms, or ''
--   2    due time in ms
--   3..  ids
-- RETURNS
--   for each id: 'updated', 'not_found', 'queued', 'running' or 'finished'
-- include: clock counts pieces lines delayed
-- flags: allow-oom
local job, ready, delayed, counts, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, due_ms = now_ms(ARGV[1]), tonumber(ARGV[2])
local lines = redis.call('HEXISTS', counts, 'flow') == 1 and lines_open(prefix, ready, counts)
local answers, due_entries = {}, {}
local changes = { queued = 0, scheduled = 0, retrying = 0 }
for at = 3, #ARGV do
  local id = ARGV[at]
  local key = job .. id
  local found = redis.call('HMGET', key, 'state', 'flow', 'flow1')
  local state = found[1]
  if state == 'scheduled' or state == 'retrying' then
    answers[#answers + 1] = 'updated'
    if due_ms > now then
      redis.call('HSET', key, 'due_ms', ARGV[2])
      due_entries[#due_entries + 1], due_entries[#due_entries + 2] = due_ms, id
    else
      redis.call('ZREM', delayed, id)
      redis.call('HSET', key, 'state', 'queued')
      redis.call('HDEL', key, 'due_ms')
      changes[state], changes.queued = changes[state] - 1, changes.queued + 1
      if lines then
        lines.push_tail(id, flow_of(key, found[2], found[3]))
        lines.ticket()
      else
        redis.call('RPUSH', ready, id)
      end
    end
  elseif not state then
    answers[#answers + 1] = 'not_found'
  elseif state == 'queued' or state == 'running' then
    answers[#answers + 1] = state
  else
    answers[#answers + 1] = 'finished'
  end
end
delay(delayed, ready, due_entries)
count(counts, changes)
return answers
