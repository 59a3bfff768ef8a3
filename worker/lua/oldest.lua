-- Tell how many messages wait in a queue, and which has waited longest.
--
-- KEYS  the queue's list
-- ARGV  longest message that can be a doorbell, in bytes
--
-- Returns {how many, the oldest}; '' for the oldest where there is none, or where it is longer. It
-- only reads.

local oldest = redis.call('LINDEX', KEYS[1], -1) or ''
return {redis.call('LLEN', KEYS[1]), #oldest <= tonumber(ARGV[1]) and oldest or ''}
