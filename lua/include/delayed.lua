-- delay(delayed, ready, entries): enter jobs by due time; wake one idle worker if the next due time
-- is now an earlier one. The ticket it gets is an empty element of the ready list: it owns nothing.
-- entries: due_ms, id, due_ms, id, ...
local function delay(delayed, ready, entries)
  if #entries == 0 then
    return
  end
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', delayed, unpack(entries))
  local now_first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if first ~= now_first and redis.call('EXISTS', ready) == 0 then
    redis.call('RPUSH', ready, '')
  end
end

-- promote(...): move up to limit due jobs to the tail of the queue, by due time. lines: those of a
-- queue that uses time and flow, else nil.
local function promote(job, delayed, ready, counts, now, limit, lines)
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)
  if #due == 0 then
    return
  end
  local changes = { scheduled = 0, retrying = 0, queued = 0 }
  local pointers = {}
  for _, id in ipairs(due) do
    local key = job .. id
    local found = redis.call('HMGET', key, 'state', 'flow', 'flow1')
    local state = found[1]
    if state == 'scheduled' or state == 'retrying' then
      redis.call('HSET', key, 'state', 'queued')
      redis.call('HDEL', key, 'due_ms')
      changes[state] = changes[state] - 1
      changes.queued = changes.queued + 1
      if lines then
        lines.push_tail(id, lines.flow_of(key, found[2], found[3]))
      else
        pointers[#pointers + 1] = id
      end
    end
  end
  redis.call('ZREM', delayed, unpack(due))
  if #pointers > 0 then
    redis.call('RPUSH', ready, unpack(pointers))
  elseif lines then
    lines.ticket()
  end
  count(counts, changes)
end

-- next_due(delayed, now): milliseconds until the next job is due, -1 when none waits.
local function next_due(delayed, now)
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if not first then
    return -1
  end
  return math.max(0, tonumber(first) - now)
end
