-- delayed: jobs that wait for a time, by that time and then by the bytes of their ids.
--
-- KEYS
--   job      prefix of the job hashes
--   delayed  zset    scheduled and retrying ids by due time
-- ARGV
--   1  injected time in ms, or ''
--   2  jobs at most
--   3  due time of the last one seen, and
--   4  its id; neither for the first
-- RETURNS
--   { id, all fields, id, all fields, ... }
local job, delayed = KEYS[1], KEYS[2]
local start, limit = 0, tonumber(ARGV[2])

-- By bytes: the operator goes by the server's locale.
local function is_after(one, other)
  for i = 1, math.min(#one, #other) do
    local byte, other_byte = string.byte(one, i), string.byte(other, i)
    if byte ~= other_byte then
      return byte > other_byte
    end
  end
  return #one > #other
end

if ARGV[3] then
  if redis.call('ZSCORE', delayed, ARGV[4]) == ARGV[3] then
    start = redis.call('ZRANK', delayed, ARGV[4]) + 1
  else
    -- It has gone: its place among those of its time is looked for.
    start = redis.call('ZCOUNT', delayed, '-inf', '(' .. ARGV[3])
    local after = redis.call('ZCOUNT', delayed, '-inf', ARGV[3])
    while start < after do
      local middle = math.floor((start + after) / 2)
      if not is_after(redis.call('ZRANGE', delayed, middle, middle)[1], ARGV[4]) then
        start = middle + 1
      else
        after = middle
      end
    end
  end
end
local answer = {}
for _, id in ipairs(redis.call('ZRANGE', delayed, start, start + limit - 1)) do
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGETALL', job .. id)
end
return answer
