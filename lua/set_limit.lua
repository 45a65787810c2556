-- set_limit: put a limit in force in place of the one that was, or end it.
--
-- KEYS
--   job      prefix of the job hashes
--   ready    list    ids waiting, head first; tickets
--   leases   zset    running ids by deadline
--   counts   hash    numbers: what waits, the fence counter, until when events are heard
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
--   2  scope: 'q', 't' and a job type, 'k' and the name of a limit by key
--   3  concurrency; '' to end the limit
--   4  starts in a time, 0 for no rate
--   5  that time in ms
--   6  'sliding' or 'bucket'
--   7  starts at once at most
--   8  1 if an operator said so
-- RETURNS
--   nil
-- include: clock pieces lines scopes rates lanes
-- flags: allow-oom
local job, ready, leases, counts, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, scope = now_ms(ARGV[1]), ARGV[2]
local limits, busy, held = prefix .. 'limits', prefix .. 'busy', prefix .. 'held'
local was = redis.call('HGET', limits, scope)

if ARGV[3] == '' then
  redis.call('HDEL', limits, scope)
  for _, lane in ipairs(redis.call('HKEYS', busy)) do
    if lane_scope(lane) == scope then
      redis.call('HDEL', busy, lane)
    end
  end
else
  local limit = {
    tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]),
    tonumber(ARGV[8]),
  }
  local old = was and cmsgpack.unpack(was) or {}
  local same_rate = true
  for i = 2, 5 do
    same_rate = same_rate and old[i] == limit[i]
  end
  -- What another rate has counted is under another generation.
  limit[7] = same_rate and old[7] or redis.call('HINCRBY', counts, 'generation', 1)
  redis.call('HSET', limits, scope, cmsgpack.pack(limit))
end
local number = redis.call('HLEN', limits)
if number == 0 then
  redis.call('HDEL', counts, 'limits')
else
  redis.call('HSET', counts, 'limits', number)
  flow_on(prefix, ready, counts)
end
if redis.call('HEXISTS', counts, 'flow') == 0 then
  return
end

local lines = lines_open(prefix, ready, counts)
local lanes = lanes_open(prefix, job, counts, now, lines)
if ARGV[3] ~= '' and not was then
  -- What runs counts from the first moment.
  for _, id in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    local key = job .. id
    local found = redis.call('HMGET', key, 'name', 'flow', 'flow1')
    if found[1] then
      local numbers = {}
      lanes.count(numbers, found[1], flow_of(key, found[2], found[3]))
      for lane in pairs(numbers) do
        if lane_scope(lane) == scope then
          lanes.run(lane, 1)
        end
      end
    end
  end
end
for _, lane in ipairs(redis.call('HKEYS', held)) do
  if lane_scope(lane) == scope then
    lanes.look_again(lane, now)
  end
end
lines.ticket()
