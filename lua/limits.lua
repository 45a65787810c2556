-- limits: the limits in force, and what runs and is held back under them.
--
-- KEYS
--   prefix   prefix of all keys, for what belongs to time and flow
-- ARGV
--   1  injected time in ms, or ''
-- RETURNS
--   { scope, limit, running, held back } for each; limit as in include/lanes.lua
-- include: scopes
local prefix = KEYS[1]

local function sums(key)
  local found, by_scope = redis.call('HGETALL', key), {}
  for i = 1, #found, 2 do
    local lane = found[i]
    local scope = lane_scope(lane)
    if scope then
      by_scope[scope] = (by_scope[scope] or 0) + tonumber(found[i + 1])
    end
  end
  return by_scope
end

local running, held = sums(prefix .. 'busy'), sums(prefix .. 'held')
local found, answer = redis.call('HGETALL', prefix .. 'limits'), {}
for i = 1, #found, 2 do
  local scope = found[i]
  answer[#answer + 1] = { scope, found[i + 1], running[scope] or 0, held[scope] or 0 }
end
return answer
