-- fences_draw(counts, number, now): the first of so many new fences, larger than all before. Also
-- than those that the server has forgotten, having lost all that it held or the last of it: none is
-- below the time in hundredths of a second, each of which has 10,000.
local function fences_draw(counts, number, now)
  local last = redis.call('HINCRBY', counts, 'fence', number)
  local below = math.floor(now / 10) * 10000
  if last < below then
    last = below + number
    redis.call('HSET', counts, 'fence', text(last))
  end
  return last - number + 1
end
