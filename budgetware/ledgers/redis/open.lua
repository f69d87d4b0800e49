-- See that the store is one of ours, and note which server has it.
-- KEYS: meta, nodes. ARGV: tag, given time, version. Returns the tag and the store's version.
local recover, problem = guard(KEYS[1], KEYS[2], time_us(tonumber(ARGV[2])), 0, false)
if not recover then return redis.error_reply(problem) end
redis.call('HSETNX', KEYS[1], 'version', ARGV[3])
return {ARGV[1], redis.call('HGET', KEYS[1], 'version')}
