-- Let go of a dead letter's body, so that nobody can replay it.
--
-- KEYS  record, event log
--
-- Returns 'dropped', also a second time; the word of the state of what is no dead letter;
-- 'missing'.
--
-- What was no task is deleted. The record of a task stays as long as it would have stayed without
-- its request: its `result_ttl` from its ending. Anybody may have written it: a moment or a time to
-- live that is none counts as not said.

local record, events = KEYS[1], KEYS[2]

local function number(text)
  return text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
end

local f = redis.call('HMGET', record, 'state', 'kind', 'ended_at', 'result_ttl')
if not f[1] then
  return 'missing'
end
if f[1] ~= 'failed' then
  return f[1]
end
if f[2] == 'message' then
  redis.call('DEL', record)
  return 'dropped'
end

redis.call('HDEL', record, 'request')
local ttl = number(f[4]) or 0
if ttl < 1 or ttl > 2592000 then
  ttl = 86400
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stays = math.min(number(f[3]) or now, now) + ttl * 1000 - now
for _, key in ipairs({record, events}) do
  local left = redis.call('PTTL', key)
  if left < 0 or stays < left then
    redis.call('PEXPIRE', key, string.format('%d', stays))
  end
end
return 'dropped'
