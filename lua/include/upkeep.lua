-- next_step(prefix, delayed, now, room_at): ms until a job is due, expires or may start under its
-- rate, and at room_at if that is a moment; -1 when none will.
local function next_step(prefix, delayed, now, room_at)
  local first = room_at
  for _, key in ipairs({ delayed, prefix .. 'expiring', prefix .. 'wakes' }) do
    local at = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if at and (not first or at < first) then
      first = at
    end
  end
  return first and math.max(0, first - now) or -1
end

-- flow_off(prefix, ready, counts): back to one list, if nothing of time and flow is in use now.
local function flow_off(prefix, ready, counts)
  local used = redis.call('HMGET', counts, 'flowing', 'limits', 'paused', 'draining', 'max_waiting')
  for i = 1, #used do
    if used[i] and used[i] ~= '0' then
      return
    end
  end
  if redis.call('EXISTS', prefix .. 'held') == 1 then
    return
  end
  redis.call('HDEL', counts, 'flow', 'flowing')
  redis.call('DEL', ready, prefix .. 'turns:normal', prefix .. 'busy')
  if redis.call('EXISTS', prefix .. 'normal') == 1 then
    redis.call('RENAME', prefix .. 'normal', ready)
  end
end
