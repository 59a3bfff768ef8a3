-- Strike a task that is over off the list of those that go on, and count how it ended.
--
-- KEYS  the list; the tally, in the same slot; the record, where the same server has it
-- ARGV  task id; fields of the tally that get 1 more, a line each
--
-- Returns 1 where this call counted it, else 0.
--
-- An ending is counted once, whoever calls, and however often: the record's note that it is
-- `uncounted` is deleted in the same step. Where there is no such record, or it is another server's,
-- a task that stands on the list is counted as it is struck off. (That alone would count twice what
-- comes on the list again before a call whose answer was lost is repeated.)
--
-- A task that goes on stays on the list: it was replayed before its old ending was counted.

local due, tally, record = KEYS[1], KEYS[2], KEYS[3]
local goes_on = {queued = true, running = true, retrying = true}
-- Another program may have put there what is no record.
local state = record and redis.pcall('HGET', record, 'state')
local counts
if type(state) == 'string' then
  counts = redis.call('HDEL', record, 'uncounted') == 1
  if not goes_on[state] then
    redis.call('ZREM', due, ARGV[1])
  end
else
  counts = redis.call('ZREM', due, ARGV[1]) == 1
end
if not counts then
  return 0
end
for name in string.gmatch(ARGV[2], '[^\n]+') do
  -- Whatever another program has put there: it must not keep a task on the list for ever.
  redis.pcall('HINCRBY', tally, name, 1)
end
return 1
