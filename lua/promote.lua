-- promote: move due jobs to the tail of the queue, by due time; end what has not started in time.
--
-- KEYS
--   job      prefix of the job hashes
--   delayed  zset    scheduled and retrying ids by due time
--   ready    list    ids waiting, head first
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   stale    set     ids with a pointer in the list that no longer counts
--   events   channel
--   prefix   prefix of all keys, for what belongs to time and flow, indexes and replies
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
--   3  the error of a job that was not started in time
--   4  largest value in bytes that travels in a reply
-- RETURNS
--   ms until something is to be done again, -1 when nothing is
-- EVENTS
--   cancelled
-- include: clock counts attempt events replies finished pieces lines scopes rates lanes delayed
-- include: ending upkeep
-- flags: allow-oom
local job, delayed, ready, counts, stale = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events_channel, prefix = KEYS[6], KEYS[7]
local now = now_ms(ARGV[1])
local told = redis.call('HMGET', counts, 'heard_until', 'flow')
if not told[2] then
  promote(job, delayed, ready, counts, now, ARGV[2])
  return next_due(delayed, now)
end
local lines = lines_open(prefix, ready, counts)
local lanes = lanes_open(prefix, job, counts, now, lines)
local events = events_begin(told[1], now)
local ending = ending_open({
  job = job, delayed = delayed, counts = counts, stale = stale, prefix = prefix, events = events,
  injected = ARGV[1], now = now, inline_bytes = tonumber(ARGV[4]), lines = lines, lanes = lanes,
})
ending.expire(ARGV[3], ARGV[2])
ending.save()
promote(job, delayed, ready, counts, now, ARGV[2], lines)
lanes.wake_due()
events_publish(events_channel, events)
local next_ms = next_step(prefix, delayed, now, lanes.queue_opens(lines.waits()))
flow_off(prefix, ready, counts)
return next_ms
