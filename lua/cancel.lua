-- cancel: end what waits, request a stop of what runs.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   stale               set     ids with a pointer in the list that no longer counts
--   events              channel
--   control             channel on which workers hear of cancel requests
--   prefix              prefix of all keys, for what belongs to time and flow, indexes and replies
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
-- include: clock counts attempt events replies finished pieces lines scopes rates lanes ending
-- flags: allow-oom
local job, ready, delayed, counts, stale = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events_channel, control, prefix = KEYS[6], KEYS[7], KEYS[8]
local now = now_ms(ARGV[1])
local default_ttl_ms, value, inline_bytes, request = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local answers, requested = {}, {}
local told = redis.call('HMGET', counts, 'heard_until', 'flow')
local events = events_begin(told[1], now)
local lines = told[2] and lines_open(prefix, ready, counts)
local ending = ending_open({
  job = job, delayed = delayed, counts = counts, stale = stale, prefix = prefix, events = events,
  injected = ARGV[1], now = now, inline_bytes = inline_bytes, lines = lines,
  lanes = lines and lanes_open(prefix, job, counts, now, lines),
})

for at = 6, #ARGV do
  local id = ARGV[at]
  local key = job .. id
  local found = ending.read(id)
  local state = found[1]
  local asked = state and redis.call('HMGET', key, 'cancel_request', 'cancel_value')
  if not state then
    answers[#answers + 1] = 'not_found'
  elseif asked[1] == request then
    -- The caller did not hear the answer: what it was can be told from what was written.
    answers[#answers + 1] = asked[2] and 'running' or 'cancelled'
  elseif state == 'running' then
    if not asked[2] then
      redis.call('HSETNX', key, 'ttl_ms', default_ttl_ms)
      redis.call('HSET', key, 'cancel_value', value, 'cancel_request', request)
    end
    requested[#requested + 1] = id
    answers[#answers + 1] = 'running'
  elseif ending.waits(found) then
    redis.call('HSET', key, 'cancel_request', request)
    ending.add(id, found, value, default_ttl_ms, false)
    answers[#answers + 1] = 'cancelled'
  else
    answers[#answers + 1] = 'finished'
  end
end

ending.save()
if #requested > 0 then
  redis.call('PUBLISH', control, cmsgpack.pack(requested))
end
events_publish(events_channel, events)
return answers
