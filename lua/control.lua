-- control: change what holds for a whole queue, and say what holds now.
--
-- KEYS
--   ready    list  ids waiting, head first; tickets
--   counts   hash  numbers: what waits, the fence counter, until when events are heard
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1    injected time in ms, or ''
--   2..  field of the control and its new value, field and value, ...
-- RETURNS
--   paused, draining, max_waiting, low_every
-- include: clock pieces lines
-- flags: allow-oom
local ready, counts, prefix = KEYS[1], KEYS[2], KEYS[3]
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', counts, ARGV[i])
  else
    redis.call('HSET', counts, ARGV[i], ARGV[i + 1])
  end
end
local found = redis.call('HMGET', counts, 'paused', 'draining', 'max_waiting', 'low_every')
local answer = {}
for i = 1, 4 do
  answer[i] = tonumber(found[i] or 0)
end
if #ARGV > 1 then
  if answer[1] + answer[2] + answer[3] > 0 then
    flow_on(prefix, ready, counts)
  end
  if redis.call('HEXISTS', counts, 'flow') == 1 then
    lines_open(prefix, ready, counts).ticket()
  end
end
return answer
