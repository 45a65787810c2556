-- finished_index(key, entries, longest_ms): enter ended jobs by the time at which they expire. The
-- index itself lives as long as its last entry, or a little longer, and so is not told each time.
-- entries: score, id, score, id, ...
local INDEX_LONGER_MS = 10000

local function finished_index(key, entries, longest_ms)
  if #entries == 0 then
    return
  end
  redis.call('ZADD', key, unpack(entries))
  if redis.call('PTTL', key) < longest_ms then
    redis.call('PEXPIRE', key, longest_ms + INDEX_LONGER_MS)
  end
end

-- expiry(injected, now, ttl_ms): command and argument that make the server forget an ended job at
-- the very moment from which the index takes it for gone. Under an injected clock only the duration
-- is known.
local function expiry(injected, now, ttl_ms)
  if injected ~= '' or ttl_ms < 2 then
    return 'PEXPIRE', text(ttl_ms)
  end
  -- A key is gone when the server's clock is past its time, not when it is there.
  return 'PEXPIREAT', text(now + ttl_ms - 1)
end
