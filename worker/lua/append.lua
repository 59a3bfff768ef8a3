-- Append events to a task's log and publish them, while the writer holds the attempt.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, attempt, token of its claim, first seq, largest event for the
--       channel in bytes, then one event each, of consecutive seqs
--
-- Returns 1, or 0 where the attempt is no longer the writer's. The token says whose it is: after
-- a failover to a server that had not heard of a claim, its number may be given a second time.
-- What the log has already is
-- skipped, so a batch may be sent again after a cut connection. A log that lacks events before
-- the first one (Redis refused them, or lost them with its machine) gets no more: an error.

local record, events = KEYS[1], KEYS[2]
local id, channel, attempt, token, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
local f = redis.call('HMGET', record, 'token', 'state')
if f[1] ~= token or f[2] ~= 'running' then
  return 0
end
local first = tonumber(ARGV[5])
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local known = last[1] and tonumber(string.match(last[1][1], '^' .. attempt .. '%-(%d+)$'))
if not known or known < first - 1 then
  return redis.error_reply('ERR the log lacks events before ' .. attempt .. '-' .. first)
end
for i = 8 + known - first, #ARGV do
  local place = attempt .. '-' .. (first + i - 7)
  redis.call('XADD', events, place, 'event', ARGV[i])
  if #ARGV[i] <= limit then
    redis.call('PUBLISH', channel, ARGV[i])
  else
    redis.call('PUBLISH', channel, string.format(
      '{"id":"%s","task_id":"%s","type":"stored","at":0}', place, id))
  end
end
return 1
