-- Replies to those who wait for jobs: gathered by address, published once a call (or more often,
-- so that no message grows beyond REPLY_BYTES).
local REPLY_BYTES = 262144

local function replies_flush(channel, batch)
  redis.call('PUBLISH', channel, cmsgpack.pack(batch.list))
  batch.list, batch.size = {}, 0
end

-- addresses: separated by spaces. A value over inline_bytes is left to be fetched (false).
local function replies_add(batches, prefix, addresses, id, state, value, inline_bytes)
  local inline = #value <= inline_bytes and value or false
  for address in string.gmatch(addresses, '%S+') do
    local channel = prefix .. address
    local batch = batches[channel]
    if not batch then
      batch = { list = {}, size = 0 }
      batches[channel] = batch
    end
    batch.list[#batch.list + 1] = { id, state, inline }
    batch.size = batch.size + #id + (inline and #inline or 0)
    if batch.size > REPLY_BYTES then
      replies_flush(channel, batch)
    end
  end
end

local function replies_publish(batches)
  for channel, batch in pairs(batches) do
    if #batch.list > 0 then
      replies_flush(channel, batch)
    end
  end
end

-- The addresses with one more, if it is not among them.
local function replies_remember(key, addresses, address)
  if address ~= '' and not string.find(' ' .. addresses .. ' ', ' ' .. address .. ' ', 1, true) then
    redis.call('HSET', key, 'reply_to', addresses == '' and address or addresses .. ' ' .. address)
  end
end
