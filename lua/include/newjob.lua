-- newjob_fields(new, state, now_text): what every new job has, as arguments of an HSET. new: as in
-- ARGV of enqueue.lua.
local function newjob_fields(new, state, now_text)
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
