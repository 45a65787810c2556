-- delete_schedule: forget a schedule.
--
-- KEYS
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
--   2  its id
-- RETURNS
--   1 if there was one
-- flags: allow-oom
local prefix = KEYS[1]
redis.call('ZREM', prefix .. 'schedules_due', ARGV[2])
return redis.call('HDEL', prefix .. 'schedules', ARGV[2])
