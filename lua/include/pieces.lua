-- A field over 64 bytes makes the server keep the whole hash as a table, in three times the memory.
-- So a spec or a value of up to four times that is stored in pieces: name, name1, name2, name3. A
-- larger one stands in one field: then the table is the smaller part.
local PIECE = 64

-- pieces_add(fields, name, value): add the field or fields to the arguments of an HSET.
local function pieces_add(fields, name, value)
  if #value > 4 * PIECE then
    fields[#fields + 1], fields[#fields + 2] = name, value
    return
  end
  fields[#fields + 1], fields[#fields + 2] = name, string.sub(value, 1, PIECE)
  for i = 1, math.ceil(#value / PIECE) - 1 do
    fields[#fields + 1] = name .. i
    fields[#fields + 1] = string.sub(value, i * PIECE + 1, (i + 1) * PIECE)
  end
end

local function pieces_join(first, second, third, fourth)
  if second then
    return first .. second .. (third or '') .. (fourth or '')
  end
  return first or ''
end

-- The value of a job that has ended.
local function pieces_value(key)
  return pieces_join(unpack(redis.call('HMGET', key, 'value', 'value1', 'value2', 'value3')))
end
