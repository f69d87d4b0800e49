-- Note a token; whoever noted it with the same mark is told again that it was the first.
-- KEYS: token. ARGV: tag, given time, mark, when it expires in milliseconds since the epoch.
local known = redis.call('GET', KEYS[1])
if known then return {ARGV[1], known == ARGV[3] and 1 or 0} end
local left = math.floor(ARGV[4] - time_us(tonumber(ARGV[2])) / 1000)
if left > 0 then redis.call('SET', KEYS[1], ARGV[3], 'PX', string.format('%.0f', left)) end
return {ARGV[1], 1}
