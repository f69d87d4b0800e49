-- Keep another text for as long as the one that is there. KEYS: text. ARGV: tag, text.
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', left) end
return {ARGV[1]}
