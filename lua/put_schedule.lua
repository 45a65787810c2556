-- put_schedule: store the next version of a schedule, and the jobs that it makes.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   finished_cancelled  zset    cancelled ids by expiry
--   stale               set     ids with a pointer in the list that no longer counts
--   events              channel
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
--   2  largest value in bytes that travels in an answer
--   3  msgpack array of jobs, as in enqueue.lua
--   4  id of the schedule
--   5  msgpack { version, token, next_ms, last_ms, last_id, record }
-- RETURNS
--   1 if that version is stored, by this call or a repeat of it; 0 if another one is
-- EVENTS
--   enqueued
-- include: clock counts events replies pieces delayed storing intake
-- with flow: lines admission
local job, ready, delayed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished_cancelled, stale, events_channel, prefix = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local id = ARGV[4]
local schedules, due = prefix .. 'schedules', prefix .. 'schedules_due'
local stored = redis.call('HGET', schedules, id)
local old = stored and cmsgpack.unpack(stored) or { 0, '' }
local new = cmsgpack.unpack(ARGV[5])
if old[1] == new[1] and old[2] == new[2] then
  return 1
elseif old[1] ~= new[1] - 1 then
  return 0
end
local jobs = cmsgpack.unpack(ARGV[3])
local storing = storing_open(
  job, ready, delayed, counts, finished_cancelled, stale, prefix, now_ms(ARGV[1]),
  tonumber(ARGV[2]), with_flow, true
)
local refusal = intake_refusal(storing, jobs)
if refusal then
  return refusal
end
redis.call('HSET', schedules, id, ARGV[5])
if new[3] > 0 then
  redis.call('ZADD', due, new[3], id)
else
  redis.call('ZREM', due, id)
end
for _, new_job in ipairs(jobs) do
  intake_add(storing, new_job)
end
intake_save(storing, events_channel)
return 1
