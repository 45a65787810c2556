-- handing_over(new, now, job, counts, stale, prefix, inline_bytes, events_channel): store a new job
-- as leased to the worker that offers to take one, and send it there, if it is plain and no other
-- waits; whether that was done.
local function handing_over(new, now, job, counts, stale, prefix, inline_bytes, events_channel)
  local id, name, spec, delay_ms, due_ms, ttl_ms, request, _, said = unpack(new)
  if said or delay_ms ~= 0 or due_ms ~= 0 or #spec > inline_bytes then
    return false
  end
  local heard_until, flow, offer, fence, waiting = unpack(
    redis.call('HMGET', counts, 'heard_until', 'flow', 'offer', 'fence', 'queued')
  )
  local lease_ms, worker = offer_read(offer, now, fence)
  if not worker or flow or (waiting or '0') ~= '0' then
    return false
  end
  local key = job .. id
  -- An id that somebody chose may have been cancelled before, and its pointer be left.
  if
    redis.call('HMGET', key, 'state')[1]
    or (request ~= '' and redis.call('EXISTS', stale) == 1)
  then
    return false
  end
  -- The answer of PUBLISH would count those who hear all channels too.
  local channel = prefix .. 'handed:' .. worker
  if redis.call('PUBSUB', 'NUMSUB', channel)[2] == 0 then
    return false
  end
  fence = fence_after(tonumber(fence), 1, now)
  local fence_text, now_text = text(fence), text(now)
  local fields = newjob_fields(new, 'running', now_text)
  local size = #fields
  fields[size + 1], fields[size + 2], fields[size + 3] = 'fence', fence_text, 'worker'
  fields[size + 4], fields[size + 5], fields[size + 6] = worker, 'started_ms', now_text
  redis.call('HSET', key, unpack(fields))
  redis.call('HSET', counts, 'fence', fence_text)
  redis.call('HSET', prefix .. 'handed', worker, fence_text .. ' ' .. id)
  redis.call('ZADD', prefix .. 'leases', text(now + lease_ms), id)
  local events = events_begin(heard_until, now)
  events_add(events, 'enqueued', id, name, now, 0, '')
  events_add(events, 'started', id, name, now, 1, worker)
  events_publish(events_channel, events)
  redis.call('PUBLISH', channel, cmsgpack.pack({ id, name, spec, fence, 1, now, ttl_ms }))
  return true
end
