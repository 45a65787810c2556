-- schedules: read schedules, and the storage's time.
--
-- KEYS
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1    injected time in ms, or ''
--   2    'ids', 'due' or 'all'
--   3..  ids; or how many that are due
-- RETURNS
--   { now, when the next one is due (0: none ever is), { id, record, ... } }
-- include: clock
local prefix = KEYS[1]
local now = now_ms(ARGV[1])
local schedules, due = prefix .. 'schedules', prefix .. 'schedules_due'
local ids, found = {}, {}
if ARGV[2] == 'ids' then
  for i = 3, #ARGV do
    ids[#ids + 1] = ARGV[i]
  end
elseif ARGV[2] == 'due' then
  ids = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[3])
else
  found = redis.call('HGETALL', schedules)
end
for _, id in ipairs(ids) do
  local record = redis.call('HGET', schedules, id)
  if record then
    found[#found + 1], found[#found + 2] = id, record
  end
end
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
return { now, first and math.max(now, tonumber(first)) or 0, found }
