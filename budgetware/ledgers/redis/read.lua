-- KEYS: nodes. ARGV: tag, what the keys of nodes begin with, the first and last name, how many.
-- Returns the tag, and of each node: name, state, definition, latch.
local reply = {ARGV[1]}
local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
for _, name in ipairs(names) do
  local row = redis.call('HMGET', ARGV[2] .. name, 'state', 'definition', 'latch')
  for _, text in ipairs({name, row[1] or '', row[2] or '', row[3] or ''}) do
    reply[#reply + 1] = text
  end
end
return reply
