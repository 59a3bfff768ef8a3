-- Take the doorbells that wait at the end of a queue.
--
-- KEYS  the queue's list
-- ARGV  how many at most; longest message that is one, in bytes
--
-- Returns them in their order. It stops at the first message that is none, as far as a look at it
-- tells: what carries a task must be noted as soon as it is taken, so it is taken alone.

local taken = {}
while #taken < tonumber(ARGV[1]) do
  local message = redis.call('LINDEX', KEYS[1], -1)
  if not message or #message > tonumber(ARGV[2]) or not string.find(message, '"rung_at"', 1, true) then
    break
  end
  taken[#taken + 1] = redis.call('RPOP', KEYS[1])
end
return taken
