-- admitted(at, new): whether a job may be stored in a queue that uses time and flow, as one does
-- from the first job that says something. If not, it is answered. at: see include/storing.lua.
local function admitted(at, new)
  local REMEMBERED_REPLACEMENTS = 16

  local function use_flow()
    flow_on(at.prefix, at.ready, at.counts)
    at.uses_flow, at.lines = true, lines_open(at.prefix, at.ready, at.counts)
    local found = redis.call('HMGET', at.counts, 'draining', 'max_waiting', 'queued', 'scheduled')
    at.is_draining, at.most = found[1], tonumber(found[2] or 0)
    at.waiting = tonumber(found[3] or 0) + tonumber(found[4] or 0)
  end

  -- Whether the job under a unique key still keeps others away.
  local function counts_still(unique, state, fence, enqueued_ms)
    if unique[2] == 'elapsed' then
      return at.now < enqueued_ms + unique[3]
    end
    local has_ended = state == 'completed' or state == 'failed' or state == 'cancelled'
    return not has_ended and (unique[2] == 'finished' or not fence)
  end

  local function forget_due(id)
    for i = #at.due_entries - 1, 1, -2 do
      if at.due_entries[i + 1] == id then
        table.remove(at.due_entries, i + 1)
        table.remove(at.due_entries, i)
      end
    end
  end

  -- Put this one in the place of one that has not started.
  local function replace(id, state, enqueued_ms, unique, tokens, token)
    local key = at.job .. id
    local _, _, spec, delay_ms, due_ms, ttl_ms = unpack(new)
    tokens[#tokens + 1] = token
    if #tokens > REMEMBERED_REPLACEMENTS then
      table.remove(tokens, 1)
    end
    redis.call('HDEL', key, 'spec1', 'spec2', 'spec3', 'ttl_ms')
    redis.call('HSET', key, 'replaced', cmsgpack.pack(tokens), pieces('spec', spec))
    if ttl_ms ~= 0 then
      redis.call('HSET', key, 'ttl_ms', ttl_ms)
    end
    if state == 'scheduled' then
      due_ms = delay_ms ~= 0 and at.now + delay_ms or due_ms
      if unique[5] ~= 0 then
        due_ms = math.min(due_ms, enqueued_ms + unique[5])
      end
      forget_due(id)
      if due_ms > at.now then
        redis.call('HSET', key, 'due_ms', due_ms)
        at.due_entries[#at.due_entries + 1], at.due_entries[#at.due_entries + 2] = due_ms, id
      else
        state = 'queued'
        redis.call('HSET', key, 'state', state)
        redis.call('HDEL', key, 'due_ms')
        redis.call('ZREM', at.delayed, id)
        at.changes.scheduled = at.changes.scheduled - 1
        at.changes.queued = at.changes.queued + 1
        local said = redis.call('HMGET', key, 'flow', 'flow1')
        storing_flush(at)
        at.lines.push_tail(id, flow_of(key, said[1], said[2]))
      end
    end
    replies_remember(key, redis.call('HGET', key, 'reply_to') or '', new[8])
    storing_answer(at, 'replaced', state, false, id)
  end

  -- Whether a job of the same unique key is in the way; then the answer is that one's.
  local function gives_way(unique)
    local id, token = new[1], new[7] ~= '' and new[7] or new[1]
    local other = redis.call('GET', at.prefix .. 'unique:' .. unique[1])
    if not other or (other == id and unique[2] ~= 'elapsed') then
      return false
    end
    local key = at.job .. other
    local found = redis.call('HMGET', key, 'state', 'fence', 'enqueued_ms', 'replaced')
    local state, enqueued_ms = found[1], tonumber(found[3])
    if not state then
      return false
    end
    local tokens = found[4] and cmsgpack.unpack(found[4]) or {}
    for _, replaced in ipairs(tokens) do
      if replaced == token then
        storing_answer(at, 'replaced', state, false, other)
        return true
      end
    end
    if not counts_still(unique, state, found[2], enqueued_ms) then
      return false
    elseif unique[4] then
      replace(other, state, enqueued_ms, unique, tokens, token)
    else
      storing_known(at, key, state, new[8], other ~= id and other or nil)
    end
    return true
  end

  if not at.lines then
    use_flow()
  end
  local unique = new[9] and cmsgpack.unpack(new[9])[7]
  if unique and gives_way(unique) then
    return false
  elseif at.is_open then
    return true
  elseif at.is_draining then
    storing_answer(at, 'draining', 'queued', false)
    return false
  elseif at.most > 0 and at.waiting + at.changes.queued + at.changes.scheduled >= at.most then
    storing_answer(at, 'full', 'queued', false)
    return false
  end
  return true
end
