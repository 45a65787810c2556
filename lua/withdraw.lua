-- withdraw: end a worker's offer, and tell what it was handed last.
--
-- KEYS
--   job      prefix of the job hashes
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   handed   hash    fence and id of the job that each worker was handed last
-- ARGV
--   1  worker
-- RETURNS
--   the job, as in claim, if the worker still holds it; else nil
-- include: clock attempt pieces offers
-- flags: allow-oom
local job, counts, handed = KEYS[1], KEYS[2], KEYS[3]
local worker = ARGV[1]
offer_end(counts, worker)
local last = redis.call('HGET', handed, worker)
local fence, id = string.match(last or '', '^(%d+) (.*)$')
if not id then
  return nil
end
local key = job .. id
local found = redis.call(
  'HMGET', key, 'state', 'spec', 'name', 'attempt', 'enqueued_ms', 'ttl_ms', 'fence', 'spec1'
)
if found[1] ~= 'running' or found[7] ~= fence then
  return nil
end
local spec = pieces_join(key, 'spec', found[2], found[8])
return { id, found[3], spec, fence, attempt_of(found[4], found[7]), found[5], found[6] or '0' }
