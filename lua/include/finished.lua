-- finished_index(key, entries, longest_ms): enter ended jobs by the time at which they expire. The
-- index itself lives as long as its last entry. entries: score, id, score, id, ...
local function finished_index(key, entries, longest_ms)
  if #entries == 0 then
    return
  end
  redis.call('ZADD', key, unpack(entries))
  if redis.call('PTTL', key) < longest_ms then
    redis.call('PEXPIRE', key, longest_ms)
  end
end
