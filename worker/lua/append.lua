-- Append events to a task's log and publish them, while the writer holds the attempt.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, attempt, first seq, largest event for the channel in bytes,
--       then one event each, of consecutive seqs
--
-- Returns 1, or 0 where the attempt is no longer the writer's. What the log has already is
-- skipped, so a batch may be sent again after a cut connection.

local record, events = KEYS[1], KEYS[2]
local id, channel, attempt, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local f = redis.call('HMGET', record, 'attempt', 'state')
if f[1] ~= attempt or f[2] ~= 'running' then
  return 0
end
local seq = tonumber(ARGV[4])
for i = 6, #ARGV do
  local place = attempt .. '-' .. seq
  local added = redis.pcall('XADD', events, place, 'event', ARGV[i])
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then
      return redis.error_reply(added.err)
    end
  elseif #ARGV[i] <= limit then
    redis.call('PUBLISH', channel, ARGV[i])
  else
    redis.call('PUBLISH', channel, string.format(
      '{"id":"%s","task_id":"%s","type":"stored","at":0}', place, id))
  end
  seq = seq + 1
end
return 1
