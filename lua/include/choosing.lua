-- choose(at): the jobs that start next in a queue that uses time and flow: by level, in turn from
-- each group, as far as limits let them. It enters them in at.ids and at.rows, and returns ms until
-- something is to be done again (-1: nothing), and 1 if it has not looked at all pointers. at has
-- the claim script's job, ready, inbox, delayed, counts, stale, prefix, events, injected, now,
-- wanted, max_bytes, expired (the error of what was not started in time), inline_bytes,
-- pointers_at_most and promoted_at_most.
local function choose(at)
  local counts, now, ids, rows = at.counts, at.now, at.ids, at.rows
  local taken, size, looked = {}, 0, 0
  local lines = lines_open(at.prefix, at.ready, counts)
  local lanes = lanes_open(at.prefix, at.job, counts, now, lines)
  at.lines, at.lanes = lines, lanes
  local ending = ending_open(at)
  -- What was handed over before the queue used any of this.
  for _, id in ipairs(redis.call('LRANGE', at.inbox, 0, -1)) do
    if id ~= '' then
      lines.push_heads({ id }, { [id] = PLAIN })
    end
  end
  redis.call('DEL', at.inbox)
  ending.expire(at.expired, at.promoted_at_most)
  promote(at.job, at.delayed, at.ready, counts, now, at.promoted_at_most, lines)
  lanes.wake_due()

  local settings = redis.call('HMGET', counts, 'paused', 'low_every', 'low_since')
  local low_every, low_since = tonumber(settings[2] or 0), tonumber(settings[3] or 0)
  local room = settings[1] and 0 or lanes.room('q')
  local enough = math.min(at.wanted, room)
  local low_waits = low_every > 0 and lines.waits(LOW)

  -- As the claim script reads one, with what it says.
  local function read(id)
    local key = at.job .. id
    local found = redis.call(
      'HMGET', key, 'state', 'spec', 'name', 'attempt', 'enqueued_ms', 'ttl_ms', 'fence', 'spec1',
      'flow', 'flow1'
    )
    found[2] = pieces_join(key, 'spec', found[2], found[8])
    return found
  end

  local function is_queued(id)
    if id ~= '' and redis.call('HGET', at.job .. id, 'state') == 'queued' then
      return true
    end
    redis.call('SREM', at.stale, id)
    return false
  end

  local function next_pointer()
    local asked = enough - #ids
    if low_waits and low_since >= low_every - 1 then
      local id = lines.next(LOW, asked, is_queued)
      if id then
        return id
      end
    end
    for level = 0, LOW do
      local id = lines.next(level, asked, is_queued)
      if id then
        return id
      end
    end
  end

  local id, too_large
  while #ids < enough and looked < at.pointers_at_most do
    id = next_pointer()
    if not id then
      break
    end
    looked = looked + 1
    local key = at.job .. id
    local found = id ~= '' and read(id) or {}
    if found[1] ~= 'queued' or taken[id] then
      redis.call('SREM', at.stale, id)
    else
      local flow = flow_of(key, found[9], found[10])
      if #ids > 0 and size + #found[2] > at.max_bytes then
        too_large = flow
        break
      elseif flow[2] > 0 and not found[7] and found[5] + flow[2] <= now then
        ending.add(id, ending.read(id), at.expired, 0, true)
      elseif lanes.start(id, found[3], found[7], flow) then
        if flow == UNREADABLE then
          found[2] = '' -- which its worker cannot read either, and so fails it
        end
        size = size + #found[2]
        ids[#ids + 1], rows[#rows + 1], taken[id] = id, found, true
        if flow[2] > 0 then
          redis.call('ZREM', at.prefix .. 'expiring', id)
        end
        if flow[1] == LOW then
          low_since = 0
          low_waits = low_every > 0 and lines.waits(LOW)
        elseif low_waits then
          low_since = low_since + 1
        end
      end
    end
  end
  lines.put_back()
  if too_large then
    lines.push_heads({ id }, { [id] = too_large })
  end
  lanes.take_of_queue(#ids)
  lanes.save()
  ending.save()
  if low_every > 0 then
    redis.call('HSET', counts, 'low_since', low_since)
  end
  if id and #ids < room and lines.waits() then
    -- Not all was looked at: somebody else may find something.
    lines.ticket()
  end
  local due_in = next_step(at.prefix, at.delayed, now, lanes.queue_opens(lines.waits()))
  return due_in, looked >= at.pointers_at_most and 1 or 0
end
