-- Keep a text, unless there is one. KEYS: text. ARGV: tag, text, how many milliseconds.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3], 'NX')
return {ARGV[1], redis.call('GET', KEYS[1]) or ARGV[2]}
