-- Raise the value of a node, once for each request.
-- KEYS: node, request. ARGV: tag, units, how long a request is known.
-- Returns the tag, what came of it, the node, its definition and latch.
local row = redis.call('HMGET', KEYS[1], 'state', 'definition', 'latch')
local n = row[1] and read_node(row[1])
if not n or n.deleted == 1 then return {ARGV[1], 'missing'} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {ARGV[1], 'ok', row[1], row[2], row[3]} end
if n.kind == RATE or n.value + ARGV[2] > MOST then
  return {ARGV[1], 'refused', row[1], row[2], row[3]}
end
n.value, n.revision = n.value + ARGV[2], n.revision + 1
redis.call('SET', KEYS[2], '', 'EX', ARGV[3])
redis.call('HSET', KEYS[1], 'state', node_text(n))
return {ARGV[1], 'ok', node_text(n), row[2], row[3]}
