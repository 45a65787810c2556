-- A field over 64 bytes makes the server keep the whole hash as a table, in three times the memory.
-- So a spec or a value of up to four times that is stored in pieces: name, name1, name2, name3. A
-- larger one stands in one field: then the table is the smaller part.
local PIECE = 64

-- pieces(name, value): the field or fields, as arguments of an HSET.
local function pieces(name, value)
  local size = #value
  if size <= PIECE or size > 4 * PIECE then
    return name, value
  end
  local first, second = string.sub(value, 1, PIECE), string.sub(value, PIECE + 1, 2 * PIECE)
  if size <= 2 * PIECE then
    return name, first, name .. '1', second
  end
  local third = string.sub(value, 2 * PIECE + 1, 3 * PIECE)
  if size <= 3 * PIECE then
    return name, first, name .. '1', second, name .. '2', third
  end
  local fourth = string.sub(value, 3 * PIECE + 1)
  return name, first, name .. '1', second, name .. '2', third, name .. '3', fourth
end

-- pieces_join(key, name, first, second): the whole, of which the first two are read already.
local function pieces_join(key, name, first, second)
  if not second then
    return first or ''
  elseif #second < PIECE then
    return first .. second
  end
  local rest = redis.call('HMGET', key, name .. '2', name .. '3')
  return first .. second .. (rest[1] or '') .. (rest[2] or '')
end

-- The value of a job that has ended.
local function pieces_value(key)
  return pieces_join(key, 'value', unpack(redis.call('HMGET', key, 'value', 'value1')))
end
