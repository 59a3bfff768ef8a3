-- Tell how the stream of an attempt goes, and nothing of what it says.
--
-- KEYS  event log
-- ARGV  attempt; so many chunks back is where its pace is measured from
--
-- Returns {when it was started, chunks so far, when the last one came, when the one came that is so
-- many before it, or the first}: unix ms by whoever wrote the event, '' where the log lacks it.
--
-- It only reads. Anybody may have written the log: a number of more than 15 digits counts as 0.

local log, attempt, back = KEYS[1], ARGV[1], tonumber(ARGV[2])

local function at(seq)
  local place = attempt .. '-' .. string.format('%d', seq)
  local entry = redis.call('XRANGE', log, place, place)[1]
  return entry and string.match(entry[2][2], '"at":(%d+)') or ''
end

local last = redis.call('XREVRANGE', log, attempt, attempt, 'COUNT', 1)[1]
local digits = last and string.match(last[1], '-(%d+)$') or '0'
local chunks = #digits <= 15 and tonumber(digits) or 0
if chunks == 0 then
  return {at(0), 0, '', ''}
end
return {at(0), chunks, at(chunks), at(math.max(1, chunks - back))}
