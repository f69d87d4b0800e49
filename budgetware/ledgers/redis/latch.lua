-- Have a node take no more reservations, for the reason that came first.
-- KEYS: node. ARGV: tag, reason.
if redis.call('HGET', KEYS[1], 'latch') == '' then
  redis.call('HSET', KEYS[1], 'latch', ARGV[2])
end
return {ARGV[1]}
