-- What stores jobs from outside, and answers for those that are there (include/intake.lua), goes by
-- one table, made here of the script's names. is_open: jobs are stored also while the queue takes
-- nothing new. No closures over it, and all fields at once: each would cost every enqueue.
local function storing_open(
  job, ready, delayed, counts, finished_cancelled, stale, prefix, now, inline_bytes, with_flow,
  is_open
)
  local told = redis.call('HMGET', counts, 'heard_until', 'flow')
  return {
    job = job, ready = ready, delayed = delayed, counts = counts, stale = stale, prefix = prefix,
    finished_cancelled = finished_cancelled, now = now, now_text = text(now),
    inline_bytes = inline_bytes, with_flow = with_flow, is_open = is_open, uses_flow = told[2],
    events = events_begin(told[1], now), kit = false, lines = false, answers = {}, pointers = {},
    due_entries = {}, changes = { queued = 0, scheduled = 0, flowing = 0 },
  }
end

local function storing_answer(at, status, state, value, other)
  at.answers[#at.answers + 1] = { status, state, value, other }
end

-- Enter the pointers so far, in order.
local function storing_flush(at)
  if #at.pointers > 0 then
    if at.lines then
      at.lines.push_plain(at.pointers)
    else
      redis.call('RPUSH', at.ready, unpack(at.pointers))
    end
    at.pointers = {}
  end
end

-- A job that is there already.
local function storing_known(at, key, state, reply_to, other)
  if state == 'completed' or state == 'failed' or state == 'cancelled' then
    local small = redis.call('HSTRLEN', key, 'value') <= at.inline_bytes
    local status = state == 'completed' and 'completed' or 'duplicate'
    storing_answer(at, status, state, small and pieces_value(key), other)
  else
    replies_remember(key, redis.call('HGET', key, 'reply_to') or '', reply_to)
    storing_answer(at, 'duplicate', state, false, other)
  end
end
