-- fence_after(last, number, now): the last of so many new fences, where last was drawn before. They
-- are larger than all before, also than those that the server has forgotten, having lost all that
-- it held or the last of it: none is below the time in hundredths of a second, each of which has
-- 10,000.
local function fence_after(last, number, now)
  return math.max(last, math.floor(now / 10) * 10000) + number
end

-- fences_draw(counts, number, now): the first of so many new fences.
local function fences_draw(counts, number, now)
  local last = redis.call('HINCRBY', counts, 'fence', number)
  local drawn = fence_after(last - number, number, now)
  if last ~= drawn then
    redis.call('HSET', counts, 'fence', text(drawn))
  end
  return drawn - number + 1
end
