-- Events are published as one message a call, and only while somebody listens.
-- events_begin(heard_until, now) -> list or nil; events_add(...); events_publish(channel, list).
local function events_begin(heard_until, now)
  return heard_until and tonumber(heard_until) > now and {} or nil
end

local function events_add(events, type, id, name, now, attempt, worker)
  if events then
    events[#events + 1] = { type, id, name, now, attempt, worker }
  end
end

local function events_publish(channel, events)
  if events and #events > 0 then
    redis.call('PUBLISH', channel, cmsgpack.pack(events))
  end
end
