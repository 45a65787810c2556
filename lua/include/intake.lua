-- intake_refusal(at, jobs): the error for jobs that cannot be stored, before the first change.
-- intake_add(at, new): store a job if its id is new, else answer for the one that is there.
-- intake_save(at, events_channel): write down what goes for all, and tell: the answers. at: see
-- include/storing.lua.
local STORED = {
  queued = { 'queued', 'queued', false }, scheduled = { 'queued', 'scheduled', false },
}

-- What every new job has, as arguments of an HSET.
local function intake_fields(new, state, now_text)
  local _, name, spec, _, _, ttl_ms, request, reply_to = unpack(new)
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
  return fields
end

local function intake_store(at, key, new)
  local id, name, _, delay_ms, due_ms, _, request, _, said = unpack(new)
  if delay_ms ~= 0 then
    due_ms = at.now + delay_ms
  end
  local state = due_ms > at.now and 'scheduled' or 'queued'
  local fields = intake_fields(new, state, at.now_text)
  if said then
    for _, part in ipairs({ pieces('flow', said) }) do
      fields[#fields + 1] = part
    end
  end
  if state == 'scheduled' then
    fields[#fields + 1], fields[#fields + 2] = 'due_ms', due_ms
    at.due_entries[#at.due_entries + 1], at.due_entries[#at.due_entries + 2] = due_ms, id
  end
  redis.call('HSET', key, unpack(fields))
  -- Not before that: the server looks at its memory at the first write, and lets a command pass
  -- that takes none.
  if request ~= '' and redis.call('SREM', at.stale, id) == 1 then
    -- The pointer of a cancelled predecessor would give this job a place ahead of its turn.
    redis.call('LREM', at.lines and at.prefix .. 'normal' or at.ready, 1, id)
  end
  local flow = said and cmsgpack.unpack(said)
  if flow then
    at.kit.flow_stored(at.prefix, id, flow, at.now)
    at.changes.flowing = at.changes.flowing + 1
  end
  if state == 'queued' then
    if not flow or (flow[1] == at.kit.PLAIN[1] and flow[3] == '') then
      at.pointers[#at.pointers + 1] = id
    else
      storing_flush(at)
      at.lines.push_tail(id, flow)
    end
  end
  at.changes[state] = at.changes[state] + 1
  events_add(at.events, 'enqueued', id, name, at.now, 0, '')
  at.answers[#at.answers + 1] = STORED[state]
end

-- What only a queue that uses time and flow needs: made once, when somebody needs it.
local function intake_kit(at)
  at.kit = at.kit or at.with_flow()
  return at.kit
end

-- One of them says what cannot be read.
local function intake_refusal(at, jobs)
  for _, new in ipairs(jobs) do
    if new[9] and not intake_kit(at).flow_read(new[9]) then
      return redis.error_reply('ERR what job ' .. new[1] .. ' says about its start is malformed')
    end
  end
end

-- Store one, or answer for the one that is there.
local function intake_add(at, new)
  local id, request = new[1], new[7]
  local key = at.job .. id
  local state = redis.call('HGET', key, 'state')
  if state and (redis.call('HGET', key, 'request') or '') == request then
    storing_answer(at, 'queued', state, false)
  elseif state and state ~= 'cancelled' then
    storing_known(at, key, state, new[8])
  elseif (at.uses_flow or new[9]) and not intake_kit(at).admitted(at, new) then
    return
  elseif not state then
    intake_store(at, key, new)
  else
    local old = redis.call('HMGET', key, 'cancel_request', 'flow', 'flow1')
    if old[2] then
      local kit = intake_kit(at)
      kit.flow_forgotten(at.prefix, id, kit.flow_of(key, old[2], old[3]))
    end
    redis.call('DEL', key)
    redis.call('ZREM', at.finished_cancelled, id)
    intake_store(at, key, new)
    if old[1] then
      -- That cancel may come once more; it is not this job's.
      redis.call('HSET', key, 'cancel_request', old[1])
    end
  end
end

-- Write down what was stored, and tell: the answers.
local function intake_save(at, events_channel)
  storing_flush(at)
  if at.lines and at.changes.queued > 0 then
    at.lines.ticket()
  end
  delay(at.delayed, at.ready, at.due_entries)
  count(at.counts, at.changes)
  events_publish(events_channel, at.events)
  return at.answers
end
