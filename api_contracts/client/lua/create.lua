-- Put a task on record, once.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, digest of the content, expiry (unix ms or ''), then
--       field, value, … of the record (task, request, kind, queue, …)
--
-- Returns 'created'; 'same' where the id is on record with the same content (a producer that
-- repeats itself after a cut connection); 'other' where it is with another.

local record, events = KEYS[1], KEYS[2]
local id, channel, digest, expires_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('HGET', record, 'digest')
if known then
  return known == digest and 'same' or 'other'
end

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', record, 'state', 'queued', 'attempt', 0, 'failures', 0, 'digest', digest,
  'created_at', now, 'due_at', now, 'expires_at', expires_at, unpack(ARGV, 5))
local event = '{"id":"0-1","task_id":"' .. id .. '","type":"queued","at":' .. now .. '}'
redis.call('XADD', events, '0-1', 'event', event)
redis.call('PUBLISH', channel, event)
return 'created'
