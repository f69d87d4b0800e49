-- KEYS: node, its leases, its journal. ARGV: tag.
-- Returns the tag, the node, the lines of its journal, its leases.
return {ARGV[1], redis.call('HGET', KEYS[1], 'state') or '',
  redis.call('LRANGE', KEYS[3], 0, -1), redis.call('HVALS', KEYS[2])}
