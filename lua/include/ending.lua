-- The end of jobs that wait: cancelled, cleared, or not started in time.
--
-- ending_open(at): at has the script's job, delayed, counts, stale, prefix, injected, now,
-- inline_bytes, events, and lines and lanes where the queue uses time and flow.
local ENDING_FIELDS = {
  'state', 'ttl_ms', 'name', 'reply_to', 'attempt', 'fence', 'flow', 'flow1', 'enqueued_ms',
}

local function ending_open(at)
  local ending, entries, longest, reply_batches = {}, {}, 0, {}
  local changes = { queued = 0, scheduled = 0, retrying = 0, flowing = 0 }

  function ending.read(id)
    return redis.call('HMGET', at.job .. id, unpack(ENDING_FIELDS))
  end

  function ending.waits(found)
    return found[1] == 'queued' or found[1] == 'scheduled' or found[1] == 'retrying'
  end

  -- End one. found: as read; is_out: its pointer is in no line any more.
  function ending.add(id, found, value, ttl_ms, is_out)
    local key, state, name = at.job .. id, found[1], found[3]
    ttl_ms = tonumber(found[2] or ttl_ms)
    redis.call('HDEL', key, 'reply_to', 'due_ms', 'value1', 'value2', 'value3')
    redis.call(
      'HSET', key, 'state', 'cancelled', 'ttl_ms', ttl_ms, 'finished_ms', at.now, 'kept_ms', ttl_ms,
      pieces('value', value)
    )
    local expire, argument = expiry(at.injected, at.now, ttl_ms)
    redis.call(expire, key, argument)
    if state ~= 'queued' then
      redis.call('ZREM', at.delayed, id)
    end
    local is_in_list = state == 'queued' and not is_out
    if at.lines then
      local flow = flow_of(key, found[7], found[8])
      if state == 'queued' then
        local was_held = at.lanes.remove(id, name, flow)
        is_in_list = is_in_list and not was_held and not at.lines.remove(id, flow)
      end
      if flow ~= PLAIN then
        flow_ended(at.prefix, id, flow, ttl_ms)
        changes.flowing = changes.flowing - 1
      end
    end
    if is_in_list then
      redis.call('SADD', at.stale, id)
    end
    changes[state] = changes[state] - 1
    entries[#entries + 1], entries[#entries + 2] = at.now + ttl_ms, id
    longest = math.max(longest, ttl_ms)
    replies_add(
      reply_batches, at.prefix .. 'reply:', found[4] or '', id, 'cancelled', value, at.inline_bytes
    )
    events_add(
      at.events, 'cancelled', id, name, at.now, attempt_of(found[5], found[6]), ''
    )
  end

  -- End up to limit jobs that have not started in time. value: the error that they keep.
  function ending.expire(value, limit)
    local expiring = at.prefix .. 'expiring'
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', at.now, 'LIMIT', 0, limit)) do
      local found = ending.read(id)
      if ending.waits(found) and not found[6] then
        ending.add(id, found, value, 0, false)
      else
        redis.call('ZREM', expiring, id)
      end
    end
  end

  function ending.save()
    finished_index(at.prefix .. 'finished:cancelled', entries, longest)
    count(at.counts, changes)
    replies_publish(reply_batches)
  end

  return ending
end
