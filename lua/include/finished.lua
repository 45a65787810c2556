-- How many jobs ended in a state and still exist: a zset, in which a member "<ms>:<jobs>" stands
-- for the jobs that expire at that moment (its score), and the score of "total" is minus the number
-- of all. Jobs that ended together expire together, so this takes little room, and no number needs
-- a sweep. Moments are looked for from "(0" on: the total is never above.

local function finished_jobs(member)
  return tonumber(string.match(member, '%d+$'))
end

-- finished_change(key, expires_ms, change): count so many jobs more, or less. What was pruned
-- cannot become less.
local function finished_change(key, expires_ms, change)
  local at = text(expires_ms)
  local jobs = change
  local old = redis.call('ZRANGEBYSCORE', key, at, at)[1]
  if old then
    redis.call('ZREM', key, old)
    jobs = jobs + finished_jobs(old)
  elseif change < 0 then
    return
  end
  if jobs > 0 then
    redis.call('ZADD', key, at, at .. ':' .. jobs)
  end
  redis.call('ZINCRBY', key, -change, 'total')
end

-- finished_add(key, expires_ms, jobs, ttl_ms): the same for jobs that ended now. The key lives as
-- long as its last entry.
local function finished_add(key, expires_ms, jobs, ttl_ms)
  finished_change(key, expires_ms, jobs)
  if redis.call('PTTL', key) < ttl_ms then
    redis.call('PEXPIRE', key, ttl_ms)
  end
end

-- expiry(injected, now, ttl_ms): command and argument that make the server forget an ended job at
-- the very moment from which it is counted no more. Under an injected clock only the duration is
-- known.
local function expiry(injected, now, ttl_ms)
  if injected ~= '' or ttl_ms < 2 then
    return 'PEXPIRE', text(ttl_ms)
  end
  -- A key is gone when the server's clock is past its time, not when it is there.
  return 'PEXPIREAT', text(now + ttl_ms - 1)
end
