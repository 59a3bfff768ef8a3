-- Queue a task again that has failed.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, how often it had been replayed when it was looked at ('' for never)
--
-- Returns 'replayed', also where somebody has since it was looked at (this very call, perhaps,
-- whose answer was lost); else the word of its state; 'failed' where its request is gone, or was
-- none of a task; 'missing'.
--
-- What was stays to be seen: numbers of attempts go on, and the record keeps what they came to.
-- The log begins anew, under the id behind its old ending, so that a new subscriber does not meet
-- that, and one who stands there goes on. What the task says stays as it is, since it may be signed:
-- a worker leaves its deadlines out of account where it was replayed.
--
-- Whoever ended it may not have counted that yet: the note of it stays, and so does the task on the
-- list, since he sees that it goes on.
--
-- Anybody may have written the record: a number in it that is none counts as 0.

local record, events = KEYS[1], KEYS[2]
local id, channel, looked_at = ARGV[1], ARGV[2], ARGV[3]

local function number(text)
  return text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text) or 0
end

local f = redis.call('HMGET', record, 'state', 'replays', 'kind', 'attempt')
local state, kind = f[1], f[3]
if not state then
  return 'missing'
end
if (f[2] or '') ~= looked_at then
  return 'replayed'
end
local known = kind == 'chat' or kind == 'vision' or kind == 'native'
if state ~= 'failed' or not known or redis.call('HEXISTS', record, 'request') == 0 then
  return state
end

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local epoch, seq = string.match(last[1] and last[1][1] or '', '^(%d+)-(%d+)$')
local attempt = string.format('%d', number(epoch or f[4]))
local place = attempt .. '-' .. string.format('%d', number(seq) + 1)
local event = '{"id":"' .. place .. '","task_id":"' .. id .. '","type":"queued","at":' .. now .. '}'

-- First what full memory may refuse: all or nothing.
redis.call('HSET', record, 'state', 'queued', 'replays',
  string.format('%d', number(f[2]) + 1), 'failures', 0, 'deaths', 0, 'expires_at', '',
  'due_at', now, 'rung_at', now)
-- Chunks of the last attempt stood between its 'started' (0) and its ending.
if attempt ~= '0' and number(seq) > 1 then
  redis.call('HSET', record, 'chunked', 1)
end
redis.call('HDEL', record, 'interrupted', 'ended_at')
redis.call('PERSIST', record)
redis.call('DEL', events)
redis.call('XADD', events, place, 'event', event)
redis.call('PUBLISH', channel, event)
return 'replayed'
