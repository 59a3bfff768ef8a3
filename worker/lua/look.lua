-- Look after a task: does somebody have to ring for it?
--
-- KEYS  record
-- ARGV  when the oldest doorbell that waits was rung, in the interactive and in the batch queue:
--       unix ms, 'empty' or 'unknown'; ms until the next look; ms to leave a timer to ring first
--
-- Returns {'over', state, kind, attempt, what is to be counted} where nobody needs to look again;
-- {'wait', when}; {'ring', when, kind, queue, state}.
--
-- Queues are first in, first out. So a doorbell is lost where its queue is empty, or where the
-- oldest that waits was rung later; in a queue that is merely long it is not, and nobody rings.

-- Anybody may have written the record: a number in it that is none counts as 0.

local function number(text)
  return text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text) or 0
end

local record = KEYS[1]
local f = redis.call('HMGET', record,
  'state', 'created_at', 'due_at', 'lease_until', 'rung_at', 'kind', 'queue', 'attempt',
  'uncounted')
local state = f[1]
-- A queued task that was handed back or replayed is due since then.
local since = ({queued = f[3] or f[2], retrying = f[3], running = f[4]})[state or '']
if not since then
  return {'over', state or '', f[6] or '', f[8] or '', f[9] or ''}
end
since = number(since)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local again, grace = tonumber(ARGV[3]), tonumber(ARGV[4])
if since > now and state ~= 'queued' then
  return {'wait', string.format('%d', since + grace)}
end

local rung = number(f[5] or f[3] or f[2])
local oldest = f[7] == 'router.batch' and ARGV[2] or ARGV[1]
-- A dead worker's task: nobody has rung since its lease ended.
local lost = rung < since or oldest == 'empty'
if not lost and oldest ~= 'unknown' then
  lost = tonumber(oldest) > rung
end
if not lost then
  -- The longer it waits, the more rarely it is looked at.
  return {'wait', string.format('%d', now + math.max(again, now - rung))}
end
redis.call('HSET', record, 'rung_at', string.format('%d', now))
return {'ring', string.format('%d', now + again), f[6] or '', f[7] or '', state}
