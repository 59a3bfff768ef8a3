-- Decide which worker tells what all workers know: the length of queues, and of lists.
--
-- KEYS  the office
-- ARGV  worker, how long it holds the office in ms; 0 where it gives it up
--
-- Returns 1 where the worker holds it now, else 0.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
