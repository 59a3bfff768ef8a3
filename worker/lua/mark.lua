-- Tell how a task is protected: with which key it is encrypted, and who has signed it.
--
-- KEYS  record
-- ARGV  bytes at the head of what is encrypted; longest signature
--
-- Returns {how what is said of the task begins, its signature}; '' where there is none. It only
-- reads, and nothing of what the task says comes out: it is JSON there, or encrypted.

local f = redis.call('HMGET', KEYS[1], 'task', 'signature')
return {
  string.sub(f[1] or '', 1, tonumber(ARGV[1])),
  string.sub(f[2] or '', 1, tonumber(ARGV[2])),
}
