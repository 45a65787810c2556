-- text(number): a whole number as text. A number among the arguments of a command is printed anew
-- each time, as a fraction might be, and that is slow.
local function text(number)
  return string.format('%d', number)
end

-- now_ms(override): milliseconds since the epoch, by the server's clock unless a test injects its
-- own.
local function now_ms(override)
  if override ~= '' then
    return tonumber(override)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
