-- How many jobs a rate lets start, as jobqueue/storage/rates.py has it for the other storages. A
-- limit is one of `limits` (see include/lanes.lua). A key lives a little longer than it counts:
-- what counts is decided by the moments in it.
local RATE_LONGER_MS = 10000

-- rate_room(key, limit, now): how many may start now; and when the next one may, if none.
local function rate_room(key, limit, now)
  if limit[4] == 'bucket' then
    local interval = limit[3] / limit[2]
    local ahead = (limit[5] - 1) * interval
    local arrival = tonumber(redis.call('GET', key) or 0)
    local free = math.floor((now + ahead - math.max(arrival, now)) / interval + 1e-9) + 1
    return math.max(0, free), math.ceil(arrival - ahead)
  end
  -- A list: until when a moment's starts count, and how many; the last element is their sum.
  local sum = tonumber(redis.call('LINDEX', key, -1) or 0)
  local first = redis.call('LRANGE', key, 0, 1)
  while sum > 0 and tonumber(first[1]) <= now do
    sum = sum - tonumber(first[2])
    redis.call('LPOP', key, 2)
    redis.call('LSET', key, -1, sum)
    first = redis.call('LRANGE', key, 0, 1)
  end
  return math.max(0, limit[2] - sum), sum > 0 and tonumber(first[1]) or now
end

-- rate_charge(key, limit, now, number): so many have started.
local function rate_charge(key, limit, now, number)
  if limit[4] == 'bucket' then
    local interval = limit[3] / limit[2]
    local arrival = math.max(tonumber(redis.call('GET', key) or 0), now) + number * interval
    local lives = text(math.ceil(arrival - now) + RATE_LONGER_MS)
    redis.call('SET', key, string.format('%.17g', arrival), 'PX', lives)
    return
  end
  local step = math.max(1, math.floor(limit[3] / 1000))
  local counts_until = (math.floor(now / step) + 1) * step + limit[3]
  local last = redis.call('LRANGE', key, -3, -1)
  if #last < 3 then
    redis.call('DEL', key)
    redis.call('RPUSH', key, text(counts_until), number, number)
  elseif tonumber(last[1]) == counts_until then
    redis.call('LSET', key, -2, last[2] + number)
    redis.call('LSET', key, -1, last[3] + number)
  else
    redis.call('LSET', key, -1, text(counts_until))
    redis.call('RPUSH', key, number, last[3] + number)
  end
  redis.call('PEXPIRE', key, text(counts_until - now + RATE_LONGER_MS))
end
