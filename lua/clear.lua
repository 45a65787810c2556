-- clear: end jobs that wait.
--
-- KEYS
--   job      prefix of the job hashes
--   ready    list    ids waiting, head first
--   delayed  zset    scheduled and retrying ids by due time
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   stale    set     ids with a pointer in the list that no longer counts
--   events   channel
--   prefix   prefix of all keys, for what belongs to time and flow, indexes and replies
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
--   3  ms to keep a job that says nothing itself
--   4  the error that it keeps
--   5  largest value in bytes that travels in a reply
-- RETURNS
--   how many ended
-- EVENTS
--   cancelled
-- include: clock counts attempt events replies finished pieces lines scopes rates lanes ending
-- include: waiting
-- flags: allow-oom
local job, ready, delayed, counts, stale = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events_channel, prefix = KEYS[6], KEYS[7]
local now = now_ms(ARGV[1])
local told = redis.call('HMGET', counts, 'heard_until', 'flow')
local events = events_begin(told[1], now)
local lines = told[2] and lines_open(prefix, ready, counts)
local at = {
  job = job, ready = ready, delayed = delayed, counts = counts, stale = stale, prefix = prefix,
  events = events, injected = ARGV[1], now = now, inline_bytes = tonumber(ARGV[5]), lines = lines,
  lanes = lines and lanes_open(prefix, job, counts, now, lines),
}
local ending = ending_open(at)
local ended = 0
-- A pointer may be stale, so that a call may find less than it looks at: it looks again.
repeat
  local ids = waiting(at, tonumber(ARGV[2]) - ended)
  for _, id in ipairs(ids) do
    local found = ending.read(id)
    if ending.waits(found) then
      ending.add(id, found, ARGV[4], ARGV[3], true)
      ended = ended + 1
    else
      redis.call('ZREM', delayed, id)
    end
  end
until #ids == 0 or ended > 0
ending.save()
events_publish(events_channel, events)
return ended
