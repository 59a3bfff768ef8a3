-- Cancel a task: write its ending, whoever runs it.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, channel on which workers hear of tasks that were cancelled
--
-- Returns 'cancelled' where it is now, whoever did it; the word of the state where it had ended
-- otherwise, or is in none of ours; 'missing'.
--
-- Nobody needs to hold the task: from here on its worker's scripts refuse whatever it writes. A
-- worker counts what is `uncounted` for the metrics, and logs it, once. So that one can, the
-- record, without its request, stays for a minute at least: a reaper comes by every 3 s.
--
-- Anybody may have written the record. A time to live that is none, or longer than the longest
-- that is allowed (30 days), counts as not said.

local record, events = KEYS[1], KEYS[2]
local id, channel, workers = ARGV[1], ARGV[2], ARGV[3]

local function number(text)
  return text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
end

local f = redis.call('HMGET', record, 'state', 'attempt', 'result_ttl', 'kind')
local state, attempt, ttl = f[1], number(f[2]) or 0, number(f[3]) or 0
if not state then
  return 'missing'
end
if state ~= 'queued' and state ~= 'running' and state ~= 'retrying' then
  return state
end
if ttl < 1 or ttl > 2592000 then
  ttl = 86400
end

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local epoch, seq = string.match(last[1] and last[1][1] or '', '^(%d+)-(%d+)$')
local place = (epoch or string.format('%d', attempt)) .. '-'
  .. string.format('%d', (number(seq) or 0) + 1)
local event = '{"id":"' .. place .. '","task_id":"' .. id .. '","type":"cancelled","at":' .. now .. '}'
-- First what may be refused, by full memory or a log of another's making: all or nothing.
redis.call('XADD', events, place, 'event', event)
local kind = ({chat = 'chat', vision = 'vision', native = 'native'})[f[4] or ''] or 'other'
redis.call('HSET', record, 'state', 'cancelled', 'ended_at', now, 'uncounted',
  '["router_worker_tasks_total","' .. kind .. '","other","other","cancelled"]')
redis.call('HDEL', record, 'request')
redis.call('EXPIRE', record, math.max(ttl, 60))
redis.call('EXPIRE', events, ttl)
redis.call('PUBLISH', channel, event)
if state == 'running' then
  redis.call('PUBLISH', workers, id)
end
return 'cancelled'
