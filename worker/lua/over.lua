-- Strike a task that is over off the list of those that go on, and count how it ended.
--
-- KEYS  the list; the tally, in the same slot
-- ARGV  task id; fields of the tally that get 1 more, a line each
--
-- Returns 1 where it was struck off by this call, else 0: a task stands on the list once, so its
-- ending is counted once, whoever calls, and however often.

local due, tally = KEYS[1], KEYS[2]
if redis.call('ZREM', due, ARGV[1]) == 0 then
  return 0
end
for name in string.gmatch(ARGV[2], '[^\n]+') do
  -- Whatever another program has put there: it must not keep a task on the list for ever.
  redis.pcall('HINCRBY', tally, name, 1)
end
return 1
