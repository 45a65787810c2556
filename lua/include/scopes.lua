-- lane_scope(lane): the field of `limits` that a lane is under (see include/lanes.lua); nil for one
-- under none of them.
local function lane_scope(lane)
  local kind = string.sub(lane, 1, 1)
  if kind == 'a' then
    return nil
  end
  return kind == 'k' and 'k' .. cmsgpack.unpack(string.sub(lane, 2))[1] or lane
end
