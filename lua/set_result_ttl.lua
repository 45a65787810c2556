-- set_result_ttl: forget finished jobs that long from now.
--
-- KEYS
--   job                 prefix of the job hashes
--   finished_completed  zset    ended ids by expiry, for each terminal state
--   finished_failed     zset
--   finished_cancelled  zset
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1    injected time in ms, or ''
--   2    time to live in ms
--   3..  ids
-- RETURNS
--   for each id: 'updated', 'not_found' or 'not_finished'
-- include: clock finished pieces lines
-- flags: allow-oom
local job = KEYS[1]
local finished = { completed = KEYS[2], failed = KEYS[3], cancelled = KEYS[4] }
local prefix = KEYS[5]
local now = now_ms(ARGV[1])
local ttl_ms = tonumber(ARGV[2])
local expire, argument = expiry(ARGV[1], now, ttl_ms)
local answers = {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local key = job .. id
  local found = redis.call('HMGET', key, 'state', 'finished_ms', 'kept_ms', 'flow', 'flow1')
  local state = found[1]
  if not state then
    answers[#answers + 1] = 'not_found'
  elseif not finished[state] then
    answers[#answers + 1] = 'not_finished'
  else
    redis.call('HSET', key, 'kept_ms', now + ttl_ms - tonumber(found[2]))
    redis.call(expire, key, argument)
    finished_index(finished[state], { text(now + ttl_ms), id }, ttl_ms)
    flow_kept(prefix, id, flow_of(key, found[4], found[5]), ttl_ms)
    answers[#answers + 1] = 'updated'
  end
end
return answers
