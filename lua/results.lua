-- results: states, and values of what has ended; remember an address for what has not.
--
-- KEYS
--   job  prefix of the job hashes
-- ARGV
--   1    address to tell, or ''
--   2..  ids
-- RETURNS
--   for each id: { state, value } or nil
-- include: replies pieces
-- flags: allow-oom
local job = KEYS[1]
local answers = {}
for at = 2, #ARGV do
  local key = job .. ARGV[at]
  local found = redis.call('HMGET', key, 'state', 'reply_to')
  local state = found[1]
  if not state then
    answers[#answers + 1] = false
  elseif state == 'completed' or state == 'failed' or state == 'cancelled' then
    answers[#answers + 1] = { state, pieces_value(key) }
  else
    replies_remember(key, found[2] or '', ARGV[1])
    answers[#answers + 1] = { state, false }
  end
end
return answers
