-- Read the sums of some hours.
-- KEYS: hours. ARGV: tag, what the keys of hours begin with, the first and the last end, how many.
-- Returns the tag, and of each hour: its end, and what was added up.
local reply = {ARGV[1]}
local ends = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
for _, hour in ipairs(ends) do
  reply[#reply + 1] = hour
  reply[#reply + 1] = redis.call('HGETALL', ARGV[2] .. hour)
end
return reply
