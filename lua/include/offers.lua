-- An idle worker may offer to take one job at once: the field 'offer' of counts holds the offer
-- that was made last, as 'until when, lease in ms, last fence drawn, worker'. The script that
-- stores a lone job takes it up (enqueue.lua). Whoever draws a fence so ends it, be it the
-- worker itself that claims another job.

-- offer_made(now, for_ms, lease_ms, fence, worker)
local function offer_made(now, for_ms, lease_ms, fence, worker)
  return text(now + for_ms) .. ' ' .. lease_ms .. ' ' .. fence .. ' ' .. worker
end

-- offer_read(offer, now, fence): lease in ms and worker; nil for none, or one that has ended.
local function offer_read(offer, now, fence)
  local until_ms, lease_ms, last, worker = string.match(offer or '', '^(%d+) (%d+) (%d+) (.*)$')
  if worker and last == fence and tonumber(until_ms) > now then
    return tonumber(lease_ms), worker
  end
end

-- offer_end(counts, worker): end the offer, if it is this worker's.
local function offer_end(counts, worker)
  local offer = redis.call('HGET', counts, 'offer')
  if offer and string.match(offer, '^%d+ %d+ %d+ (.*)$') == worker then
    redis.call('HDEL', counts, 'offer')
  end
end
