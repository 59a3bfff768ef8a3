-- Prolong a lease.
--
-- KEYS  record
-- ARGV  token of the attempt's claim, lease in ms
--
-- Returns the new end of the lease in unix ms, or 0 where the attempt is no longer the worker's.

local f = redis.call('HMGET', KEYS[1], 'token', 'state')
if f[1] ~= ARGV[1] or f[2] ~= 'running' then
  return 0
end
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'lease_until', string.format('%d', ends))
return ends
