-- Decide who runs a task, and give the attempt its number.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, worker, token of this claim, lease in ms
--
-- Returns {'claimed', now, field, value, …} (the record as it now is), or {why not}:
-- 'missing', 'ended', 'held' (a live worker has it), 'early' (its retry is not due),
-- 'expired' (this call wrote the ending). The same token claims the same attempt again, so a
-- worker whose connection was cut before the answer may ask once more.

local record, events = KEYS[1], KEYS[2]
local id, channel, worker, token, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local f = redis.call('HMGET', record,
  'state', 'attempt', 'lease_until', 'due_at', 'expires_at', 'token', 'result_ttl')
local state, attempt = f[1], tonumber(f[2])
if not state then
  return {'missing'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = string.format('%d', now)

if state == 'running' then
  if f[6] == token then
    return {'claimed', stamp, unpack(redis.call('HGETALL', record))}
  end
  if tonumber(f[3]) > now then
    return {'held'}
  end
  redis.call('HSET', record, 'due_at', f[3])
elseif state == 'retrying' then
  if tonumber(f[4]) > now then
    return {'early'}
  end
elseif state ~= 'queued' then
  return {'ended'}
end

local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local seq = last[1] and tonumber(string.match(last[1][1], '-(%d+)$')) or 0

if attempt == 0 and f[5] and f[5] ~= '' and tonumber(f[5]) <= now then
  local event = string.format(
    '{"id":"0-%d","task_id":"%s","type":"expired","at":%s}', seq + 1, id, stamp)
  redis.call('HSET', record, 'state', 'expired', 'ended_at', stamp)
  redis.call('HDEL', record, 'request')
  redis.call('XADD', events, '0-' .. (seq + 1), 'event', event)
  redis.call('PUBLISH', channel, event)
  redis.call('EXPIRE', record, f[7])
  redis.call('EXPIRE', events, f[7])
  return {'expired'}
end

-- Chunks of the attempt before stand between its 'started' (0) and its 'retrying', if it has one.
local notes = state == 'retrying' and 1 or 0
if attempt > 0 and seq - notes > 0 then
  redis.call('HSET', record, 'chunked', 1)
end
local resets = redis.call('HEXISTS', record, 'chunked') == 1

attempt = attempt + 1
redis.call('HSET', record, 'state', 'running', 'attempt', attempt, 'worker', worker,
  'token', token, 'lease_until', string.format('%d', now + lease))
redis.call('HSETNX', record, 'claimed_at', stamp)
local event = string.format(
  '{"id":"%d-0","task_id":"%s","type":"started","at":%s,"attempt":%d,"worker":%s,"resets":%s}',
  attempt, id, stamp, attempt, cjson.encode(worker), tostring(resets))
redis.call('XADD', events, attempt .. '-0', 'event', event)
redis.call('PUBLISH', channel, event)
return {'claimed', stamp, unpack(redis.call('HGETALL', record))}
