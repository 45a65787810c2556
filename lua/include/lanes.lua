-- Limits. Each is in force on one or many lanes: those who share a lane share its numbers. A lane
-- is named by a letter and what it is about: 'a' and the text of `alone`, 'k' and a limit's name
-- with a key (lane_of_key), 't' and a job type, 'q' for the whole queue. `limits` has a limit for
-- each scope ('k' and its name, 't' and the job type, 'q') as msgpack { concurrency, count, per_ms,
-- 'sliding' or 'bucket', burst, pinned, generation }, count 0 for no rate. A job is held back by
-- the first of its lanes without room: it waits in `held:<lane>` by level and by when it first was.
local ALONE = { 1, 0 }
local BY_LEVEL = 2 ^ 50
local MOVED_AT_MOST = 500
-- A field of `busy` that is no lane and counts nothing, but is so long that the server keeps the
-- hash as a table: else it would search up to 512 fields one by one, each time for each job.
local NO_LANE, WIDE = '', string.rep('0', 65)

-- lanes_open(prefix, job, counts, now, lines): the lanes of a queue that uses time and flow.
local function lanes_open(prefix, job, counts, now, lines)
  local lanes, states, limit_on = {}, {}, {}
  local busy, held, wakes = prefix .. 'busy', prefix .. 'held', prefix .. 'wakes'
  local limits

  local function limit_under(scope)
    if not limits then
      limits = {}
      if redis.call('HEXISTS', counts, 'limits') == 1 then
        local found = redis.call('HGETALL', prefix .. 'limits')
        for i = 1, #found, 2 do
          limits[found[i]] = cmsgpack.unpack(found[i + 1])
        end
      end
    end
    return limits[scope]
  end

  local function limit_of(lane)
    if limit_on[lane] then
      return limit_on[lane]
    end
    local scope = lane_scope(lane)
    if not scope then
      return ALONE
    end
    return limit_under(scope)
  end

  -- The lanes of a job that are limited, in the order in which they count; not the queue's.
  function lanes.of(name, flow)
    local found = {}
    if flow[6] ~= '' then
      found[1] = 'a' .. flow[6]
    end
    local by_key = flow[4] ~= '' and limit_under('k' .. flow[4])
    if by_key then
      local lane = lane_of_key(flow[4], flow[5])
      found[#found + 1], limit_on[lane] = lane, by_key
    end
    local type_lane = 't' .. name
    if limit_under(type_lane) then
      found[#found + 1] = type_lane
    end
    return found
  end

  -- So many more of a lane run: how many that are.
  local is_wide = false
  function lanes.run(lane, number)
    if not is_wide and redis.call('EXISTS', busy) == 0 then
      redis.call('HSET', busy, NO_LANE, WIDE)
    end
    is_wide = true
    return redis.call('HINCRBY', busy, lane, number)
  end

  local function rate_key(lane, limit)
    return prefix .. 'rate:' .. limit[7] .. ':' .. lane
  end

  -- What this call knows of a lane: its limit, how many its rate lets start, and what has started.
  local function state_of(lane)
    local state = states[lane]
    if not state then
      state = { limit = limit_of(lane), started = 0 }
      if state.limit and state.limit[2] > 0 then
        state.left, state.next_at = rate_room(rate_key(lane, state.limit), state.limit, now)
      end
      states[lane] = state
    end
    return state
  end

  -- How many more of a lane may start now; and when more may, if its rate is what keeps them.
  function lanes.room(lane)
    local state = state_of(lane)
    local limit = state.limit
    if not limit then
      return math.huge
    end
    local room = math.huge
    if limit[1] > 0 then
      room = math.max(0, limit[1] - tonumber(redis.call('HGET', busy, lane) or 0))
    end
    if state.left and state.left - state.started < room then
      return state.left - state.started, state.next_at
    end
    return room
  end

  -- One of a limited lane starts, if it has room.
  local function take(lane)
    local state = state_of(lane)
    if state.is_full or (state.left and state.left <= state.started) then
      return false
    end
    local running = lanes.run(lane, 1)
    if state.limit[1] > 0 and running > state.limit[1] then
      redis.call('HINCRBY', busy, lane, -1)
      state.is_full = true
      return false
    end
    state.started = state.started + 1
    return true
  end

  local function give_back(lane)
    if redis.call('HINCRBY', busy, lane, -1) == 0 then
      redis.call('HDEL', busy, lane)
    end
    states[lane].started = states[lane].started - 1
  end

  -- So many that have started do so under the queue's limit too, if there is one.
  function lanes.take_of_queue(number)
    local state = state_of('q')
    if state.limit and number > 0 then
      lanes.run('q', number)
      state.started = state.started + number
    end
  end

  -- Write down what was started under rates.
  function lanes.save()
    for lane, state in pairs(states) do
      if state.left and state.started > 0 then
        rate_charge(rate_key(lane, state.limit), state.limit, now, state.started)
      end
    end
    states = {}
  end

  -- Look at a lane again at that time; wake one idle worker if nobody would be there earlier.
  local function look_again(lane, at)
    local first = redis.call('ZRANGE', wakes, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', wakes, at, lane)
    if not first or tonumber(first) > at then
      lines.ticket()
    end
  end

  -- When the rate of the whole queue lets the next one start, if somebody waits for that.
  function lanes.queue_opens(somebody_waits)
    if not somebody_waits or redis.call('HEXISTS', counts, 'paused') == 1 then
      return nil
    end
    local room, next_at = lanes.room('q')
    return room < 1 and next_at or nil
  end

  local function count_held(lane, change)
    if redis.call('HINCRBY', held, lane, change) <= 0 then
      redis.call('HDEL', held, lane)
    end
  end

  -- Take out as many as a lane has room for.
  local function take_held(woken, lane, most)
    redis.call('ZREM', wakes, lane)
    local there = tonumber(redis.call('HGET', held, lane) or 0)
    if there == 0 then
      return
    end
    local room, next_at = lanes.room(lane)
    local number = math.min(there, room, most)
    if number > 0 then
      local found = redis.call('ZPOPMIN', prefix .. 'held:' .. lane, text(number))
      count_held(lane, -(#found / 2))
      for i = 1, #found, 2 do
        woken[#woken + 1] = { id = found[i], place = tonumber(found[i + 1]) }
      end
    end
    if there > number then
      if number == most then
        look_again(lane, now)
      elseif next_at then
        look_again(lane, next_at)
      end
    end
  end

  -- Let as many go as these lanes have room for: they are the next of their levels.
  local function wake(some)
    local woken = {}
    for _, lane in ipairs(some) do
      if #woken < MOVED_AT_MOST then
        take_held(woken, lane, MOVED_AT_MOST - #woken)
      else
        look_again(lane, now)
      end
    end
    for _, each in ipairs(woken) do
      local key = job .. each.id
      local found = redis.call('HMGET', key, 'state', 'flow', 'flow1')
      if found[1] == 'queued' then
        lines.wake(each.id, flow_of(key, found[2], found[3]), each.place)
      end
    end
    if #woken > 0 then
      lines.ticket()
    end
  end

  -- Hold a job back until its lane has room. It keeps its turn until it starts, and has another one
  -- when it comes again: the fence of its last claim, or nothing, says which.
  local function hold(lane, id, fence, flow)
    local turn = redis.call('HGET', job .. id, 'turn')
    local order, held_after = string.match(turn or '', '^(%d+) (%d*)$')
    if held_after ~= (fence or '') then
      order = redis.call('HINCRBY', counts, 'order', 1)
      redis.call('HSET', job .. id, 'turn', order .. ' ' .. (fence or ''))
    end
    redis.call('ZADD', prefix .. 'held:' .. lane, flow[1] * BY_LEVEL + order, id)
    redis.call('HINCRBY', held, lane, 1)
    local state = state_of(lane)
    if state.left and state.left <= state.started and not redis.call('ZSCORE', wakes, lane) then
      look_again(lane, state.next_at)
    end
  end

  -- Whether a job may start: it is charged to its limits then, or held back by one of them.
  function lanes.start(id, name, fence, flow)
    local mine = lanes.of(name, flow)
    for i, lane in ipairs(mine) do
      if not take(lane) then
        hold(lane, id, fence, flow)
        for other = 1, i - 1 do
          give_back(mine[other])
        end
        if i > 1 and redis.call('EXISTS', held) == 1 then
          wake({ unpack(mine, 1, i - 1) })
        end
        return false
      end
    end
    return true
  end

  -- Wake the lanes whose time has come.
  function lanes.wake_due()
    wake(redis.call('ZRANGEBYSCORE', wakes, '-inf', now, 'LIMIT', 0, 100))
  end

  -- Take a waiting job out of whatever lane holds it back; whether one did. The others of its lanes
  -- may have counted on it.
  function lanes.remove(id, name, flow)
    local was_held = false
    if redis.call('EXISTS', held) == 0 then
      return was_held
    end
    for _, lane in ipairs({
      'a' .. flow[6], lane_of_key(flow[4], flow[5]), 't' .. name,
    }) do
      if redis.call('HEXISTS', held, lane) == 1 then
        if redis.call('ZREM', prefix .. 'held:' .. lane, id) == 1 then
          count_held(lane, -1)
          was_held = true
        end
        look_again(lane, now)
      end
    end
    return was_held
  end

  -- The lanes of a job with that of the queue, where limited, to be counted in a table.
  function lanes.count(numbers, name, flow)
    for _, lane in ipairs(lanes.of(name, flow)) do
      numbers[lane] = (numbers[lane] or 0) + 1
    end
    if limit_under('q') then
      numbers.q = (numbers.q or 0) + 1
    end
  end

  -- Jobs run no longer: there is room again for others of their lanes. released: numbers by lane.
  function lanes.release(released)
    local freed, empty, left = {}, {}, {}
    for lane in pairs(released) do
      freed[#freed + 1] = lane
    end
    if #freed == 0 then
      return
    end
    for i, running in ipairs(redis.call('HMGET', busy, unpack(freed))) do
      local number = tonumber(running or 0) - released[freed[i]]
      if number > 0 then
        left[#left + 1], left[#left + 2] = freed[i], number
      else
        empty[#empty + 1] = freed[i]
      end
    end
    if #empty > 0 then
      redis.call('HDEL', busy, unpack(empty))
    end
    if #left > 0 then
      redis.call('HSET', busy, unpack(left))
    end
    if released.q then
      lines.ticket()
    end
    if redis.call('EXISTS', held) == 1 then
      local waiting = {}
      for i, number in ipairs(redis.call('HMGET', held, unpack(freed))) do
        if number then
          waiting[#waiting + 1] = freed[i]
        end
      end
      wake(waiting)
    end
  end

  lanes.look_again = look_again
  return lanes
end
