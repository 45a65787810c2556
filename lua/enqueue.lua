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
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1      injected time in ms, or ''
--   2      largest value in bytes that travels in an answer
--   3      msgpack array of jobs: { id, name, spec, delay_ms, due_ms, ttl_ms (0: none), request,
--          reply_to, flow (see include/lines.lua; nil: says nothing) }
-- RETURNS
--   for each job: status, state, value or nil, id of another job that this is about or nil
-- EVENTS
--   enqueued, started
-- include: clock events pieces fences offers newjob handing
local job, ready, delayed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished_cancelled, stale, events_channel, prefix = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local now, inline_bytes = now_ms(ARGV[1]), tonumber(ARGV[2])
local jobs = cmsgpack.unpack(ARGV[3])
if
  #jobs == 1
  and handing_over(jobs[1], now, job, counts, stale, prefix, inline_bytes, events_channel)
then
  return { { 'queued', 'queued', false } }
end

-- Not before: what a script defines takes time, and a lone job is one that somebody waits for.
-- include: counts replies delayed storing intake
-- with flow: lines admission
local storing = storing_open(
  job, ready, delayed, counts, finished_cancelled, stale, prefix, now, inline_bytes, with_flow,
  false
)
local refusal = intake_refusal(storing, jobs)
if refusal then
  return refusal
end
for _, new in ipairs(jobs) do
  intake_add(storing, new)
end
return intake_save(storing, events_channel)
