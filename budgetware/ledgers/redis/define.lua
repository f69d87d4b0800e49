-- Add a node or change its definition, as `rules.define` does.
--
-- KEYS: meta, nodes, node, its leases, those that are over, when they ended, the journal.
-- ARGV: tag, given time, name, terms, definition, 1 if declared, declared, expected revision or
-- -1, idle time or -1.
-- Returns the tag, what came of it, the revision that was there, the node, definition, latch.
local now = time_us(tonumber(ARGV[2]))
local expected, idle = tonumber(ARGV[8]), tonumber(ARGV[9])
local is_declared = ARGV[6] == '1'
local recover, problem = guard(KEYS[1], KEYS[2], now, 0, false)
if not recover then return redis.error_reply(problem) end

local stored = redis.call('HMGET', KEYS[3], 'state', 'definition', 'latch', 'declared')
local n = stored[1] and read_node(stored[1])
local is_there = n and n.deleted == 0 and not (idle >= 0 and now - n.touched > idle)

local revision = n and n.revision or 0
local seen = is_there and revision or 0

local function reply(outcome)
  local row = redis.call('HMGET', KEYS[3], 'state', 'definition', 'latch')
  return {ARGV[1], outcome, string.format('%.0f', seen), row[1] or '', row[2] or '', row[3] or ''}
end

local function write(is_new)
  redis.call('HSET', KEYS[3], 'state', node_text(n), 'definition', ARGV[5])
  if is_declared then
    redis.call('HSET', KEYS[3], 'declared', ARGV[7])
  elseif is_new then
    redis.call('HDEL', KEYS[3], 'declared')
  end
end

local terms = {struct.unpack('<ddddd', ARGV[4])}
if expected >= 0 and expected ~= seen then return reply('revision') end
if not is_there then
  n = {revision = revision + 1, used = 0, out = 0, stranded = 0, level = terms[4], micro = 0,
    anchor = now, shares = 0, caps = 0, recover = 0, touched = now, deleted = 0, live = 0,
    waiting = 0, reap = MOST, base_used = 0, base_out = 0, base_stranded = 0}
  n.kind, n.value, n.period, n.burst, n.free = unpack(terms)
  redis.call('DEL', KEYS[4], KEYS[5], KEYS[6], KEYS[7])
  write(true)
  redis.call('HSET', KEYS[3], 'latch', '')
  redis.call('PERSIST', KEYS[3])
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
  return reply('ok')
end
if idle >= 0 or (is_declared and stored[4] == ARGV[7]) then return reply('ok') end
if n.kind ~= terms[1] then return reply('kind') end
local is_same = n.value == terms[2] and n.period == terms[3] and n.burst == terms[4]
  and n.free == terms[5] and stored[2] == ARGV[5] and not is_declared
if is_same then return reply('ok') end
refill(n, now)
n.anchor = math.max(n.anchor, now)
if n.kind == RATE then n.level = n.level + terms[4] - n.burst end
n.kind, n.value, n.period, n.burst, n.free = unpack(terms)
n.revision, n.touched = n.revision + 1, now
if n.kind == RATE then clip(n) end
write(false)
return reply('ok')
