-- Jobs from outside: each is stored if its id is new, and else reported.
--
-- storing_open(at): at has the script's job, ready, delayed, counts, finished_cancelled, stale,
-- prefix, now and inline_bytes.
local STORED = {
  queued = { 'queued', 'queued', false }, scheduled = { 'queued', 'scheduled', false },
}
local REMEMBERED_REPLACEMENTS = 16

local function storing_open(at)
  local storing, answers, pointers, due_entries = {}, {}, {}, {}
  local job, counts, prefix, now = at.job, at.counts, at.prefix, at.now
  local now_text = text(now)
  local changes = { queued = 0, scheduled = 0 }
  local told = redis.call('HMGET', counts, 'heard_until', 'flow')
  local events = events_begin(told[1], now)
  local lines, most, is_draining, waiting

  local function answer(status, state, value, other)
    answers[#answers + 1] = { status, state, value, other }
  end

  local function use_flow()
    flow_on(prefix, at.ready, counts)
    lines = lines_open(prefix, at.ready, counts)
    local found = redis.call('HMGET', counts, 'draining', 'max_waiting', 'queued', 'scheduled')
    is_draining, most = found[1], tonumber(found[2] or 0)
    waiting = tonumber(found[3] or 0) + tonumber(found[4] or 0)
  end

  local function flush()
    if #pointers > 0 then
      if lines then
        lines.push_plain(pointers)
      else
        redis.call('RPUSH', at.ready, unpack(pointers))
      end
      pointers = {}
    end
  end

  local function store(key, new)
    local id, name, spec, delay_ms, due_ms, ttl_ms, request, reply_to, said = unpack(new)
    if delay_ms ~= 0 then
      due_ms = now + delay_ms
    end
    local state = due_ms > now and 'scheduled' or 'queued'
    local fields = {
      'state', state, 'name', name, 'enqueued_ms', now_text, pieces('spec', spec),
    }
    if ttl_ms ~= 0 then
      fields[#fields + 1], fields[#fields + 2] = 'ttl_ms', ttl_ms
    end
    if request ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'request', request
    end
    if reply_to ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'reply_to', reply_to
    end
    if state == 'scheduled' then
      fields[#fields + 1], fields[#fields + 2] = 'due_ms', due_ms
      due_entries[#due_entries + 1], due_entries[#due_entries + 2] = due_ms, id
    end
    redis.call('HSET', key, unpack(fields))
    -- Not before that: the server looks at its memory at the first write, and lets a command pass
    -- that takes none.
    if request ~= '' and redis.call('SREM', at.stale, id) == 1 then
      -- The pointer of a cancelled predecessor would give this job a place ahead of its turn.
      redis.call('LREM', lines and prefix .. 'normal' or at.ready, 1, id)
    end
    if said then
      redis.call('HSET', key, pieces('flow', said))
      local flow = cmsgpack.unpack(said)
      flow_stored(prefix, counts, id, flow, now)
      if state == 'queued' then
        flush()
        lines.push_tail(id, flow)
      end
    elseif state == 'queued' then
      pointers[#pointers + 1] = id
    end
    changes[state] = changes[state] + 1
    events_add(events, 'enqueued', id, name, now, 0, '')
    answers[#answers + 1] = STORED[state]
  end

  -- A job that is there already.
  local function known(key, state, reply_to, other)
    if state == 'completed' or state == 'failed' or state == 'cancelled' then
      local small = redis.call('HSTRLEN', key, 'value') <= at.inline_bytes
      local status = state == 'completed' and 'completed' or 'duplicate'
      answer(status, state, small and pieces_value(key), other)
    else
      replies_remember(key, redis.call('HGET', key, 'reply_to') or '', reply_to)
      answer('duplicate', state, false, other)
    end
  end

  -- Whether the job under a unique key still keeps others away.
  local function counts_still(unique, state, fence, enqueued_ms)
    if unique[2] == 'elapsed' then
      return now < enqueued_ms + unique[3]
    end
    local has_ended = state == 'completed' or state == 'failed' or state == 'cancelled'
    return not has_ended and (unique[2] == 'finished' or not fence)
  end

  -- Put a later one in the place of one that has not started.
  local function replace(id, state, enqueued_ms, new, unique, tokens, token)
    local key = job .. id
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
      due_ms = delay_ms ~= 0 and now + delay_ms or due_ms
      if unique[5] ~= 0 then
        due_ms = math.min(due_ms, enqueued_ms + unique[5])
      end
      if due_ms > now then
        redis.call('HSET', key, 'due_ms', due_ms)
        due_entries[#due_entries + 1], due_entries[#due_entries + 2] = due_ms, id
      else
        state = 'queued'
        redis.call('HSET', key, 'state', state)
        redis.call('HDEL', key, 'due_ms')
        redis.call('ZREM', at.delayed, id)
        for i = #due_entries - 1, 1, -2 do
          if due_entries[i + 1] == id then
            table.remove(due_entries, i + 1)
            table.remove(due_entries, i)
          end
        end
        changes.scheduled, changes.queued = changes.scheduled - 1, changes.queued + 1
        local said = redis.call('HMGET', key, 'flow', 'flow1')
        flush()
        lines.push_tail(id, flow_of(key, said[1], said[2]))
      end
    end
    replies_remember(key, redis.call('HGET', key, 'reply_to') or '', new[8])
    answer('replaced', state, false, id)
  end

  -- Whether a job of the same unique key is in the way; then the answer is that one's.
  local function gives_way(new, unique)
    local id, token = new[1], new[7] ~= '' and new[7] or new[1]
    local other = redis.call('GET', prefix .. 'unique:' .. unique[1])
    if not other or other == id then
      return false
    end
    local key = job .. other
    local found = redis.call('HMGET', key, 'state', 'fence', 'enqueued_ms', 'replaced')
    local state, enqueued_ms = found[1], tonumber(found[3])
    if not state then
      return false
    end
    local tokens = found[4] and cmsgpack.unpack(found[4]) or {}
    for _, replaced in ipairs(tokens) do
      if replaced == token then
        answer('replaced', state, false, other)
        return true
      end
    end
    if not counts_still(unique, state, found[2], enqueued_ms) then
      return false
    elseif unique[4] then
      replace(other, state, enqueued_ms, new, unique, tokens, token)
    else
      known(key, state, new[8], other)
    end
    return true
  end

  -- Whether a new job may be stored; else it has been answered. is_welcome: also while the queue
  -- takes nothing new.
  local function may_store(new, is_welcome)
    if not (lines or told[2] or new[9]) then
      return true
    end
    if not lines then
      use_flow()
    end
    local unique = new[9] and cmsgpack.unpack(new[9])[7]
    if unique and gives_way(new, unique) then
      return false
    end
    if is_welcome then
      return true
    elseif is_draining then
      answer('draining', 'queued', false)
      return false
    elseif most > 0 and waiting + changes.queued + changes.scheduled >= most then
      answer('full', 'queued', false)
      return false
    end
    return true
  end

  function storing.add(new, is_welcome)
    local id, request = new[1], new[7]
    local key = job .. id
    local state = redis.call('HGET', key, 'state')
    if not state then
      if may_store(new, is_welcome) then
        store(key, new)
      end
    elseif (redis.call('HGET', key, 'request') or '') == request then
      answer('queued', state, false)
    elseif state == 'cancelled' then
      if not may_store(new, is_welcome) then
        return
      end
      local old = redis.call('HMGET', key, 'cancel_request', 'flow', 'flow1')
      local cancel_request = old[1]
      flow_forgotten(prefix, id, flow_of(key, old[2], old[3]))
      redis.call('DEL', key)
      redis.call('ZREM', at.finished_cancelled, id)
      store(key, new)
      if cancel_request then
        -- That cancel may come once more; it is not this job's.
        redis.call('HSET', key, 'cancel_request', cancel_request)
      end
    else
      known(key, state, new[8])
    end
  end

  -- Write down what was stored, and tell: the answers.
  function storing.save(events_channel)
    flush()
    if lines and (changes.queued ~= 0) then
      lines.ticket()
    end
    delay(at.delayed, at.ready, due_entries)
    count(counts, changes)
    events_publish(events_channel, events)
    return answers
  end

  return storing
end
