-- Take a node out; its revision is kept, so that the next definition has a higher one.
-- KEYS: nodes, node, its leases, those that are over, when they ended, the journal.
-- ARGV: tag, name, expected revision or -1. Returns the tag, what came of it, a number with it.
local text = redis.call('HGET', KEYS[2], 'state')
local n = text and read_node(text)
if not n or n.deleted == 1 then return {ARGV[1], 'missing', '0'} end
local expected = tonumber(ARGV[3])
if expected >= 0 and expected ~= n.revision then
  return {ARGV[1], 'revision', string.format('%.0f', n.revision)}
end
if n.out ~= 0 then return {ARGV[1], 'out', string.format('%.0f', n.out)} end
n.deleted, n.live, n.waiting = 1, 0, 0
redis.call('HSET', KEYS[2], 'state', node_text(n))
redis.call('EXPIRE', KEYS[2], FORGOTTEN_SECONDS)
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('ZREM', KEYS[1], ARGV[2])
return {ARGV[1], 'ok', '0'}
