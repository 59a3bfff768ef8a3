-- Decide who runs a task, and give the attempt its number.
--
-- KEYS  record, event log
-- ARGV  task id, live channel, worker, token of this claim, lease in ms, what is to be counted
--       where the task has expired
--
-- Returns {'claimed', now, field, value, …} (the record as it now is), or {why not}:
-- 'missing', 'ended', 'held' (a live worker has it), 'early' (its retry is not due),
-- 'expired' (this call wrote the ending). The same token is told the same again, so a worker whose
-- connection was cut before the answer may ask once more; its lease begins then.
--
-- Anybody may have written the record. A number in it that is none, or has more digits than Lua
-- counts with (16), counts as not said, and is replaced; a time to live that is longer than the
-- longest that is allowed (30 days) likewise.

local record, events = KEYS[1], KEYS[2]
local id, channel, worker, token, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local function number(text)
  return text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
end

local f = redis.call('HMGET', record,
  'state', 'attempt', 'lease_until', 'due_at', 'expires_at', 'token', 'result_ttl',
  'worker', 'deaths')
local state, attempt, lease_until = f[1], number(f[2]) or 0, number(f[3]) or 0
local due_at, expires_at, ttl = number(f[4]) or 0, number(f[5]), number(f[7]) or 0
if ttl < 1 or ttl > 2592000 then
  ttl = 86400
end
if not state then
  return {'missing'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = string.format('%d', now)

local function claimed()
  local reply = {'claimed', stamp}
  for _, part in ipairs(redis.call('HGETALL', record)) do
    reply[#reply + 1] = part
  end
  return reply
end

local died = false
if state == 'running' then
  if f[6] == token then
    redis.call('HSET', record, 'lease_until', string.format('%d', now + lease))
    return claimed()
  end
  if lease_until > now then
    return {'held'}
  end
  redis.call('HSET', record, 'due_at', string.format('%d', lease_until))
  died = true
elseif state == 'retrying' then
  if due_at > now then
    return {'early'}
  end
elseif state ~= 'queued' then
  return {state == 'expired' and attempt == 0 and f[6] == token and 'expired' or 'ended'}
end

local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local seq = last[1] and tonumber(string.match(last[1][1], '-(%d+)$')) or 0

if attempt == 0 and expires_at and expires_at <= now then
  local event = string.format(
    '{"id":"0-%d","task_id":"%s","type":"expired","at":%s}', seq + 1, id, stamp)
  redis.call('XADD', events, '0-' .. (seq + 1), 'event', event)
  redis.call('HSET', record, 'state', 'expired', 'ended_at', stamp, 'token', token,
    'uncounted', ARGV[6])
  redis.call('HDEL', record, 'request')
  redis.call('PUBLISH', channel, event)
  redis.call('EXPIRE', record, ttl)
  redis.call('EXPIRE', events, ttl)
  return {'expired'}
end

-- Chunks of the attempt before stand between its 'started' (0) and its 'retrying', if it has one.
-- A log of one entry has none: that of a task that was replayed begins anew.
local notes = state == 'retrying' and 1 or 0
local chunked = attempt > 0 and seq - notes > 0 and redis.call('XLEN', events) > 1
local resets = chunked or redis.call('HEXISTS', record, 'chunked') == 1

local before = string.format('%d', attempt)
attempt = string.format('%d', attempt + 1)
local event = string.format(
  '{"id":"%s-0","task_id":"%s","type":"started","at":%s,"attempt":%s,"worker":%s,"resets":%s}',
  attempt, id, stamp, attempt, cjson.encode(worker), tostring(resets))
-- First what may be refused, by a log of another's making: a claim is whole or none.
redis.call('XADD', events, attempt .. '-0', 'event', event)
redis.call('PUBLISH', channel, event)
redis.call('HSET', record, 'state', 'running', 'attempt', attempt, 'worker', worker,
  'token', token, 'lease_until', string.format('%d', now + lease))
if chunked then
  redis.call('HSET', record, 'chunked', 1)
end
if died then
  -- The attempt before was made, by a worker that did not live to tell what it came to.
  redis.call('HSET', record, 'attempt:' .. before, string.format(
    '{"attempt":%s,"worker":%s,"outcome":"interrupted","usage":{"provenance":"unavailable"}}',
    before, cjson.encode(f[8] or '')))
  redis.call('HSET', record, 'interrupted', attempt,
    'deaths', string.format('%d', (number(f[9]) or 0) + 1))
end
local known = {failures = '0', created_at = stamp, due_at = stamp, claimed_at = stamp}
for field, default in pairs(known) do
  if not number(redis.call('HGET', record, field)) then
    redis.call('HSET', record, field, default)
  end
end
return claimed()
