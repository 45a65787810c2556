-- waiting(at, limit): up to limit ids of jobs that wait, taken out of wherever they are claimed
-- from: for those who mean to end or forget them all. at has ready, delayed, stale and prefix. What
-- is delayed stays there.
local function waiting(at, limit)
  local ids, prefix = {}, at.prefix

  local function take(found, step)
    for i = 1, #found, step do
      if found[i] ~= '' then
        ids[#ids + 1] = found[i]
      end
    end
  end

  local function pop_list(key)
    while #ids < limit do
      local found = redis.call('LPOP', key, text(limit - #ids))
      if not found then
        return
      end
      take(found, 1) -- which leaves out tickets: there may be more behind them
      redis.call('SREM', at.stale, unpack(found))
    end
  end

  local function pop_set(key)
    if #ids < limit then
      take(redis.call('ZPOPMIN', key, text(limit - #ids)), 2)
    end
  end

  pop_list(at.ready)
  pop_list(prefix .. 'normal')
  for _, level in pairs(LEVELS) do
    if level ~= 'normal' then
      pop_set(prefix .. level)
    end
    pop_set(prefix .. 'woken:' .. level)
    local turns = prefix .. 'turns:' .. level
    for _, group in ipairs(redis.call('LRANGE', turns, 0, -1)) do
      if group ~= '' and #ids < limit then
        local line = prefix .. 'group:' .. level .. ':' .. group
        pop_set(line)
        if redis.call('EXISTS', line) == 0 then
          redis.call('LREM', turns, 1, group)
        end
      end
    end
    if redis.call('LINDEX', turns, 0) == '' and redis.call('LLEN', turns) == 1 then
      redis.call('DEL', turns)
    end
  end
  for _, lane in ipairs(redis.call('HKEYS', prefix .. 'held')) do
    local key = prefix .. 'held:' .. lane
    pop_set(key)
    local left = redis.call('ZCARD', key)
    if left == 0 then
      redis.call('HDEL', prefix .. 'held', lane)
    else
      redis.call('HSET', prefix .. 'held', lane, left)
    end
  end
  if #ids < limit then
    take(redis.call('ZRANGE', at.delayed, 0, limit - #ids - 1), 1)
  end
  return ids
end
