-- Strike letters off the index of the dead, each only while it stands there as it was read: one
-- that has died again meanwhile has another moment, and stays.
--
-- KEYS  rw:dead
-- ARGV  id, its moment as it was read, …

for i = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 1
