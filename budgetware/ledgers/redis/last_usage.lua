-- KEYS: usage. Returns the tag, and the id of the event that came last ('' where there is none).
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {ARGV[1], last and last[1] or ''}
