-- access: what the scripts do, and a worker does beside them, that this user may not (ACL). Asked
-- before the first change: a script that is refused a command has already done half of its work.
--
-- KEYS
--   ready    list     any key of the queue
--   inbox    list     where a worker gets ids handed over
--   reply    prefix   of the channels of replies
--   events   channel
--   control  channel
--   handed   hash     named as the channels on which workers are handed jobs begin
-- ARGV
--   1  '1' for all that a worker does, '' for what the scripts do
-- RETURNS
--   { what is refused, such as 'HSET' or 'PUBLISH jq:{queue}:events' }
local ready, inbox, reply, events, control = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local handed = KEYS[6]
local handing = handed .. ':'
local SCRIPTS = {
  'DEL', 'EXISTS', 'GET', 'HDEL', 'HEXISTS', 'HGET', 'HGETALL', 'HINCRBY', 'HKEYS', 'HLEN',
  'HMGET', 'HSET', 'HSETNX', 'HSTRLEN', 'LINDEX', 'LLEN', 'LPOP', 'LPUSH', 'LRANGE', 'LREM',
  'LSET', 'PEXPIRE', 'PEXPIREAT', 'PTTL', 'RENAME', 'RPUSH', 'SADD', 'SET', 'SREM', 'ZADD',
  'ZCARD', 'ZCOUNT', 'ZPOPMIN', 'ZRANGE', 'ZRANGEBYSCORE', 'ZRANK', 'ZREM', 'ZREMRANGEBYSCORE',
  'ZSCORE',
}
local refused = {}

local function need(shown, ...)
  if not redis.acl_check_cmd(...) then
    refused[#refused + 1] = shown
  end
end

for _, command in ipairs(SCRIPTS) do
  need(command, command, ready)
end
need('TIME', 'TIME')
need('SCRIPT|LOAD', 'SCRIPT', 'LOAD', '') -- also for a server that knows them all today
for _, channel in ipairs({ reply, events, control }) do
  need('PUBLISH ' .. channel, 'PUBLISH', channel, '')
end
need('SPUBLISH ' .. handing, 'SPUBLISH', handing, '')
if ARGV[1] == '1' then
  need('BLMOVE', 'BLMOVE', ready, inbox, 'LEFT', 'RIGHT', '0')
  need('CLIENT|ID', 'CLIENT', 'ID')
  need('CLIENT|UNBLOCK', 'CLIENT', 'UNBLOCK', '0')
  need('SUBSCRIBE ' .. control, 'SUBSCRIBE', control)
  need('SSUBSCRIBE ' .. handing, 'SSUBSCRIBE', handing)
  need('PING', 'PING')
end
return refused
