-- leave: give back what was handed to a worker and not leased, and forget the worker.
--
-- KEYS
--   ready    list    ids waiting, head first
--   inbox    list    ids handed to this worker and not yet leased
--   claimed  hash    the last claim of each worker
--   workers  zset    workers by the time until which they count as alive
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
--   2  worker
--   3  '' when the worker itself leaves; else ms that it must have been dead to be forgotten (what
--      is in its inbox is given back as soon as it is dead)
-- RETURNS
--   1 if something was given back or forgotten
-- include: clock pieces lines offers
-- flags: allow-oom
local ready, inbox, claimed, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local counts, prefix = KEYS[5], KEYS[6]
local now = now_ms(ARGV[1])
local forget = true
if ARGV[3] ~= '' then
  local alive_until = tonumber(redis.call('ZSCORE', workers, ARGV[2]) or 0)
  if alive_until > now then
    return 0
  end
  forget = alive_until + tonumber(ARGV[3]) <= now
end
local ids = redis.call('LRANGE', inbox, 0, -1)
local lines = #ids > 0 and redis.call('HGET', counts, 'flow') and lines_open(prefix, ready, counts)
for i = #ids, 1, -1 do
  if ids[i] == '' then
    if lines then
      lines.ticket()
    end
  elseif lines then
    lines.push_heads({ ids[i] }, { [ids[i]] = PLAIN })
  else
    redis.call('LPUSH', ready, ids[i])
  end
end
redis.call('DEL', inbox)
redis.call('HDEL', claimed, ARGV[2])
redis.call('HDEL', prefix .. 'handed', ARGV[2])
offer_end(counts, ARGV[2])
if forget then
  redis.call('ZREM', workers, ARGV[2])
end
return (forget or #ids > 0) and 1 or 0
