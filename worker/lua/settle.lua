-- End an attempt: with the task's ending, or with the promise of a next attempt.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, event id (its first number is the attempt), token of the claim,
--       event or '' (a hand-back has none), state that follows, time to live in seconds ('' while
--       the task goes on), field to forget or '', then field, value, …
--
-- Returns 1, or 0 where the attempt is no longer the writer's. Sent again after a cut
-- connection it returns 1 and changes nothing. Attempt 0, without a token, ends a task that was
-- never claimed. No attempt is completed while its log lacks events before the ending: an error.

local record, events = KEYS[1], KEYS[2]
local channel, place, token, event, state, ttl, forget = unpack(ARGV, 2, 8)
local attempt, seq = string.match(place, '^(%d+)-(%d+)$')
local f = redis.call('HMGET', record, 'token', 'state')
if (f[1] or '') ~= token then
  return 0
end
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local reached = last[1] and last[1][1]
if f[2] ~= 'running' and not (attempt == '0' and f[2] == 'queued') then
  return f[2] == state and (event == '' or reached == place) and 1 or 0
end
if state == 'completed' and reached ~= attempt .. '-' .. (seq - 1) then
  return redis.error_reply('ERR the log lacks events before ' .. place)
end
if event ~= '' then
  redis.call('XADD', events, place, 'event', event)
end
redis.call('HSET', record, 'state', state, unpack(ARGV, 9))
if forget ~= '' then
  redis.call('HDEL', record, forget)
end
if event ~= '' then
  redis.call('PUBLISH', channel, event)
end
if ttl ~= '' then
  redis.call('EXPIRE', record, ttl)
  redis.call('EXPIRE', events, ttl)
end
return 1
