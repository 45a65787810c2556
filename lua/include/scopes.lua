-- lane_of_key(limit, key): the lane of a key under a limit by key. The length says where the name
-- of the limit ends, which may hold anything.
local function lane_of_key(limit, key)
  return 'k' .. #limit .. ':' .. limit .. key
end

-- lane_scope(lane): the field of `limits` that a lane is under (see include/lanes.lua); nil for one
-- under none of them.
local function lane_scope(lane)
  local kind = string.sub(lane, 1, 1)
  if kind == 'a' then
    return nil
  elseif kind ~= 'k' then
    return lane
  end
  local colon = string.find(lane, ':', 1, true)
  return 'k' .. string.sub(lane, colon + 1, colon + tonumber(string.sub(lane, 2, colon - 1)))
end
