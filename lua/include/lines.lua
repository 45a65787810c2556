-- Where jobs wait in a queue that uses time and flow, which is one whose counts have the field
-- `flow`. Then `ready` holds only tickets, and pointers are in lines: those of each level without a
-- group, and one for each group of a level. `prefix` is that of all keys of the queue.
--
-- A job's own word on it is its field `flow`, a msgpack array: level (0 high, 1 normal, 2 low),
-- expires_ms, group, limit, key, alone, unique. The last is left out or { key, until, window_ms,
-- replace, max_wait_ms }, until one of 'started', 'finished', 'elapsed'.
local LEVELS = { [0] = 'high', 'normal', 'low' }
local LOW = 2
local PLAIN = { 1, 0, '', '', '', '' }
-- What stands for a text that cannot be read: some other program may have written anything.
local UNREADABLE = { 1, 0, '', '', '', '' }
local UNTIL = { started = true, finished = true, elapsed = true }

local function is_count(value)
  return type(value) == 'number' and value >= 0 and value < 2 ^ 53 and value % 1 == 0
end

-- flow_read(said): what a job says, or nil if that cannot be read.
local function flow_read(said)
  local could, flow = pcall(cmsgpack.unpack, said)
  if not could or type(flow) ~= 'table' or not LEVELS[flow[1]] or not is_count(flow[2]) then
    return nil
  end
  for i = 3, 6 do
    if type(flow[i]) ~= 'string' then
      return nil
    end
  end
  local unique = flow[7]
  if unique ~= nil and not (
    type(unique) == 'table' and type(unique[1]) == 'string' and UNTIL[unique[2]]
    and is_count(unique[3]) and type(unique[4]) == 'boolean' and is_count(unique[5])
  ) then
    return nil
  end
  return flow
end

-- flow_of(key, first, second): what a job says, of which the first two pieces are read already.
local function flow_of(key, first, second)
  return first and (flow_read(pieces_join(key, 'flow', first, second)) or UNREADABLE) or PLAIN
end

-- flow_on(prefix, ready, counts): from now on the queue uses time and flow.
local function flow_on(prefix, ready, counts)
  if redis.call('HSETNX', counts, 'flow', 1) == 1 and redis.call('EXISTS', ready) == 1 then
    redis.call('RENAME', ready, prefix .. 'normal')
  end
end

-- flow_stored(prefix, id, flow, now): a job has been stored that says something. Who stores and
-- ends such jobs counts them, as `flowing` in counts.
local function flow_stored(prefix, id, flow, now)
  if flow[2] > 0 then
    redis.call('ZADD', prefix .. 'expiring', now + flow[2], id)
  end
  if flow[7] then
    redis.call('SET', prefix .. 'unique:' .. flow[7][1], id)
  end
end

-- flow_kept(prefix, id, flow, ttl_ms): a job that has ended is kept so long: its unique key too.
local function flow_kept(prefix, id, flow, ttl_ms)
  if flow[7] and redis.call('GET', prefix .. 'unique:' .. flow[7][1]) == id then
    redis.call('PEXPIRE', prefix .. 'unique:' .. flow[7][1], text(ttl_ms))
  end
end

-- flow_forgotten(prefix, id, flow): a job is no longer stored.
local function flow_forgotten(prefix, id, flow)
  if flow[7] and redis.call('GET', prefix .. 'unique:' .. flow[7][1]) == id then
    redis.call('DEL', prefix .. 'unique:' .. flow[7][1])
  end
end

-- flow_ended(prefix, id, flow, ttl_ms): a job that says something has ended.
local function flow_ended(prefix, id, flow, ttl_ms)
  if flow[2] > 0 then
    redis.call('ZREM', prefix .. 'expiring', id)
  end
  flow_kept(prefix, id, flow, ttl_ms)
end

-- lines_open(prefix, ready, counts): the lines of a queue that uses time and flow.
local function lines_open(prefix, ready, counts)
  local lines, turning, taken, has_woken = {}, {}, {}, {}

  local function line_of(level, group)
    if group ~= '' then
      return prefix .. 'group:' .. LEVELS[level] .. ':' .. group
    end
    return prefix .. LEVELS[level]
  end

  local function turns_of(level)
    return prefix .. 'turns:' .. LEVELS[level]
  end

  -- Those that a limit held back and lets go are before all others of their level.
  local function woken_of(level)
    return prefix .. 'woken:' .. LEVELS[level]
  end

  -- The line of normal jobs without a group is a list, as it was before: its pointers may be stale.
  -- The others are sorted sets, from which one can be taken out of the middle.
  local function is_list(level, group)
    return level == 1 and group == ''
  end

  -- Whoever joins an empty line makes it take its turn behind the others of the level. While there
  -- is no group, nobody takes turns.
  local function join(level, group, line)
    local turns = turns_of(level)
    if group == '' then
      if redis.call('EXISTS', turns) == 1 and redis.call('EXISTS', line) == 0 then
        redis.call('RPUSH', turns, '')
      end
    elseif redis.call('EXISTS', line) == 0 then
      if redis.call('EXISTS', turns) == 0 and redis.call('EXISTS', line_of(level, '')) == 1 then
        redis.call('RPUSH', turns, '')
      end
      redis.call('RPUSH', turns, group)
    end
  end

  -- Wake one idle worker, who finds out what there is to do.
  function lines.ticket()
    if redis.call('EXISTS', ready) == 0 then
      redis.call('RPUSH', ready, '')
    end
  end

  function lines.push_tail(id, flow)
    local level, group = flow[1], flow[3]
    local line = line_of(level, group)
    join(level, group, line)
    if is_list(level, group) then
      redis.call('RPUSH', line, id)
    else
      redis.call('ZADD', line, redis.call('HINCRBY', counts, 'sequence', 1), id)
    end
  end

  -- Jobs that say nothing, in order.
  function lines.push_plain(ids)
    local line = line_of(1, '')
    join(1, '', line)
    redis.call('RPUSH', line, unpack(ids))
  end

  -- Several, in order, to the heads of their lines. flows: what each says, by its id.
  function lines.push_heads(ids, flows)
    local before = redis.call('HINCRBY', counts, 'heading', -#ids)
    local plain = {}
    for _, id in ipairs(ids) do
      if is_list(flows[id][1], flows[id][3]) then
        plain[#plain + 1] = id
      end
    end
    for i, id in ipairs(ids) do
      local level, group = flows[id][1], flows[id][3]
      local line = line_of(level, group)
      if not is_list(level, group) then
        join(level, group, line)
        redis.call('ZADD', line, before + i, id)
      elseif plain then
        join(level, group, line)
        for last = #plain, 1, -1 do
          redis.call('LPUSH', line, plain[last])
        end
        plain = nil
      end
    end
  end

  -- Let one start before the others of its level; of several, by their place.
  function lines.wake(id, flow, place)
    redis.call('ZADD', woken_of(flow[1]), place, id)
    has_woken[flow[1]] = true
  end

  -- Take a job out of its line; whether that could be done. From a list it cannot.
  function lines.remove(id, flow)
    local level, group = flow[1], flow[3]
    if redis.call('ZREM', woken_of(level), id) == 1 then
      return true
    elseif is_list(level, group) then
      return false
    end
    local line = line_of(level, group)
    redis.call('ZREM', line, id)
    if group ~= '' and redis.call('EXISTS', line) == 0 then
      redis.call('LREM', turns_of(level), 1, group)
    end
    return true
  end

  -- Whether somebody waits in a level, or in any.
  function lines.waits(level)
    if not level then
      return lines.waits(0) or lines.waits(1) or lines.waits(2)
    end
    local left = taken[level]
    return left and left.ids[left.at] ~= nil
      or redis.call('EXISTS', line_of(level, ''), turns_of(level), woken_of(level)) > 0
  end

  local function pop(level, group, number)
    local line = line_of(level, group)
    if is_list(level, group) then
      return redis.call('LPOP', line, text(number)) or {}
    end
    return redis.call('ZPOPMIN', line, text(number))
  end

  -- The first of the group whose turn it is. is_valid says of a pointer whether it is none that is
  -- stale: of such a one a group has no turn.
  local function next_in_turn(level, is_valid)
    local turns = turns_of(level)
    while true do
      local group = redis.call('LPOP', turns)
      if not group then
        turning[level] = false
        return nil
      end
      local id
      repeat
        id = pop(level, group, 1)[1]
      until not id or is_valid(id)
      if redis.call('EXISTS', line_of(level, group)) == 1
        and (group ~= '' or redis.call('EXISTS', turns) == 1) then
        redis.call('RPUSH', turns, group)
      end
      if id then
        return id
      end
    end
  end

  -- The next pointer of a level, or nil. Some may be taken in advance: lines.put_back.
  function lines.next(level, wanted, is_valid)
    if has_woken[level] ~= false then
      local id = redis.call('ZPOPMIN', woken_of(level))[1]
      has_woken[level] = id ~= nil
      if id then
        return id
      end
    end
    if turning[level] == nil then
      turning[level] = redis.call('EXISTS', turns_of(level)) == 1
    end
    if turning[level] then
      local id = next_in_turn(level, is_valid)
      if id then
        return id
      end
    end
    local left = taken[level]
    if not left or (left.may_be_more and not left.ids[left.at]) then
      local ids = pop(level, '', wanted)
      left = { ids = ids, at = 1, may_be_more = #ids > 0 }
      taken[level] = left
    end
    local id = left.ids[left.at]
    left.at = left.at + (is_list(level, '') and 1 or 2)
    return id
  end

  -- Give back what was taken in advance.
  function lines.put_back()
    for level, left in pairs(taken) do
      local line = line_of(level, '')
      if is_list(level, '') then
        for i = #left.ids, left.at, -1 do
          redis.call('LPUSH', line, left.ids[i])
        end
      else
        for i = left.at, #left.ids, 2 do
          redis.call('ZADD', line, left.ids[i + 1], left.ids[i])
        end
      end
    end
    taken = {}
  end

  lines.flow_of = flow_of
  return lines
end
