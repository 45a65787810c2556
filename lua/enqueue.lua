-- enqueue: store each job whose id is new; report the others.
--
-- KEYS
--   job                 prefix of the job hashes
--   ready               list    ids waiting, head first
--   delayed             zset    scheduled and retrying ids by due time
--   counts              hash    numbers: what waits, the fence counter, until when events are heard
--   finished_cancelled  zset    cancelled ids by expiry
--   stale               set     ids with a pointer in the list that no longer counts
--   events              channel
--   prefix              prefix of all keys, for what belongs to time and flow
-- ARGV
--   1      injected time in ms, or ''
--   2      largest value in bytes that travels in an answer
--   3      msgpack array of jobs: { id, name, spec, delay_ms, due_ms, ttl_ms (0: none), request,
--          reply_to, flow (see include/lines.lua; nil: says nothing) }
-- RETURNS
--   for each job: status, state, value or nil, id of another job that this is about or nil
-- EVENTS
--   enqueued, started
-- include: clock events pieces fences offers
local job, ready, delayed, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished_cancelled, stale, events_channel, prefix = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local now, inline_bytes = now_ms(ARGV[1]), tonumber(ARGV[2])
local jobs = cmsgpack.unpack(ARGV[3])

-- Lease a lone job and send it to a worker that offers to take one (include/offers.lua), while no
-- other waits: the fence and the worker; nil if nobody takes it.
local function hand_over(id, name, spec, ttl_ms, offer, last_fence, waiting)
  if #spec > inline_bytes or (waiting or '0') ~= '0' then
    return nil
  end
  local lease_ms, worker = offer_read(offer, now, last_fence)
  if not worker then
    return nil
  end
  local fence = fence_after(tonumber(last_fence), 1, now)
  local fence_text = text(fence)
  -- Before it is sent: a server without memory refuses the first write, and none after it. And
  -- sent before it is stored: an offer that nobody hears ends here. A sharded channel, since the
  -- answer for another would count those who hear all channels.
  redis.call('HSET', counts, 'fence', fence_text)
  local message = cmsgpack.pack({ id, name, spec, fence, 1, now, ttl_ms })
  if redis.call('SPUBLISH', prefix .. 'handed:' .. worker, message) == 0 then
    return nil
  end
  redis.call('HSET', prefix .. 'handed', worker, fence_text .. ' ' .. id)
  redis.call('ZADD', prefix .. 'leases', text(now + lease_ms), id)
  return fence_text, worker
end

-- Store a lone plain job of a new id; false for all others. Somebody may wait for it, and finds the
-- server asleep: so this is one piece without tables of its own, and what the other cases need is
-- not even defined before.
local function stored_alone(id, name, spec, delay_ms, due_ms, ttl_ms, request, reply_to, said)
  if said or delay_ms ~= 0 or due_ms ~= 0 then
    return false
  end
  local told = redis.call('HMGET', counts, 'heard_until', 'flow', 'offer', 'fence', 'queued')
  local key = job .. id
  -- An id that somebody chose may have been cancelled before, and its pointer be left.
  if
    told[2] or redis.call('HMGET', key, 'state')[1]
    or (request ~= '' and redis.call('EXISTS', stale) == 1)
  then
    return false
  end
  local now_text = text(now)
  local fence, worker = hand_over(id, name, spec, ttl_ms, told[3], told[4], told[5])
  if fence then
    redis.call(
      'HSET', key, 'state', 'running', 'name', name, 'enqueued_ms', now_text, 'reply_to', reply_to,
      'fence', fence, 'worker', worker, 'started_ms', now_text, pieces('spec', spec)
    )
  else
    redis.call(
      'HSET', key, 'state', 'queued', 'name', name, 'enqueued_ms', now_text, pieces('spec', spec)
    )
    if reply_to ~= '' then
      redis.call('HSET', key, 'reply_to', reply_to)
    end
    redis.call('RPUSH', ready, id)
    redis.call('HINCRBY', counts, 'queued', 1)
  end
  if request ~= '' then
    redis.call('HSET', key, 'request', request)
  end
  if ttl_ms ~= 0 then
    redis.call('HSET', key, 'ttl_ms', ttl_ms)
  end
  local events = events_begin(told[1], now)
  if events then
    events_add(events, 'enqueued', id, name, now, 0, '')
    if fence then
      events_add(events, 'started', id, name, now, 1, worker)
    end
    events_publish(events_channel, events)
  end
  return true
end

if #jobs == 1 and stored_alone(unpack(jobs[1])) then
  return { { 'queued', 'queued', false } }
end

-- include: counts replies delayed storing intake
-- with flow: lines admission
local storing = storing_open(
  job, ready, delayed, counts, finished_cancelled, stale, prefix, now, inline_bytes, with_flow,
  false
)
local refusal = intake_refusal(storing, jobs)
if refusal then
  return refusal
end
for _, new in ipairs(jobs) do
  intake_add(storing, new)
end
return intake_save(storing, events_channel)
