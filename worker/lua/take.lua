-- Take the tasks that are due to be looked at; each goes to one taker.
--
-- KEYS  rw:due
-- ARGV  how many at most, ms until they are due again (should the taker die)
--
-- Returns their ids.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[2])), id)
end
return ids
