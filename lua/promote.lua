-- promote: move due jobs to the tail of the queue, by due time.
--
-- KEYS
--   job      prefix of the job hashes
--   delayed  zset    scheduled and retrying ids by due time
--   ready    list    ids waiting, head first
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
-- RETURNS
--   ms until the next job is due, -1 when none waits
-- include: clock counts delayed
-- flags: allow-oom
local job, delayed, ready, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms(ARGV[1])
promote(job, delayed, ready, counts, now, ARGV[2])
return next_due(delayed, now)
