-- Answer claims as `rules.sync` does, each on its own.
--
-- KEYS: meta, nodes; for each claim: node, its leases, those that are over, when they ended, the
-- journal. ARGV: tag, head, whether to write repeats; for each claim: holder, claim.
-- Returns the tag, the time and whether the clock has jumped, then the length of each answer and
-- the answer.
local OK, RECOVERING, STALE, UNDEFINED, TOO_LARGE = 0, 1, 2, 3, 4
local LEAST_RETRY_US, MOST_RETRY_US = 20000, 1000000
local MAX_REAPED, MAX_PURGED = 16, 32
local MAX_LINES, MAX_FOLDED = 1000, 200
local CLAIM = '<' .. string.rep('d', 13)
local ANSWER = '<' .. string.rep('d', 12)
local TERMS = '<' .. string.rep('d', 5)

local now, longest, service_recover, writes_repeats

local function read_claim(text)
  local c = {}
  c.epoch, c.used, c.held, c.want, c.need, c.head, c.waits,
    c.demand, c.share, c.cap, c.ttl, c.revision, c.last = struct.unpack(CLAIM, text)
  c.ttl = c.ttl * 1000
  return c
end

local function answer_text(epoch, outcome, revision)
  return struct.pack(ANSWER, epoch, outcome, 0, 0, 0, 0, 0, 0, -1, 0, revision, 0)
end

-- By bytes: `<` compares texts by the server's locale.
local function is_before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function ahead(r, others)
  local units = 0
  for _, other in ipairs(others) do
    if other.ticket > 0 and (r.ticket == 0 or other.ticket < r.ticket
        or (other.ticket == r.ticket and is_before(other.holder, r.holder))) then
      units = units + other.head
    end
  end
  return units
end

local function fair(total, r, others)
  local waiting = {}
  if r.demand > 0 then waiting[1] = r.demand * FINE end
  for _, other in ipairs(others) do
    if other.demand > 0 then waiting[#waiting + 1] = other.demand * FINE end
  end
  table.sort(waiting)
  local level, left = total, total
  for at, demand in ipairs(waiting) do
    level = div(left, #waiting - at + 1)
    if demand >= level then return level end
    left = left - demand
  end
  return math.max(level, left)
end

-- When a lease is over: a slot may be in use a little longer.
local function end_us(n, r)
  return r.expires + (n.kind == CONCURRENCY and div(r.ttl, 4) or 0)
end

-- A lease that ends too late was made before the clock was put back.
local function is_late(n, r)
  return now > end_us(n, r) or r.expires > now + r.ttl + JUMP_US
end

-- Read the leases of others, and end those that have expired.
local function reap(n, leases_key, holder)
  local all, reaped, others = redis.call('HGETALL', leases_key), {}, {}
  n.reap = MOST
  for at = 1, #all, 2 do
    if all[at] ~= holder then
      local r = read_lease(all[at + 1])
      r.holder = all[at]
      if #reaped < MAX_REAPED and is_late(n, r) then
        r.answer, r.journalled = string.sub(all[at + 1], LEASE_SIZE + 1), r.units
        r.stranded = (n.kind == CAPACITY and n.free == 0) and r.units or 0
        n.out, n.stranded = n.out - r.units, n.stranded + r.stranded
        n.shares, n.caps = n.shares - r.share, n.caps - r.cap
        n.live = n.live - 1
        if r.ticket > 0 then n.waiting = n.waiting - 1 end
        r.units, r.share, r.cap, r.demand, r.head, r.ticket = 0, 0, 0, 0, 0, 0
        reaped[#reaped + 1] = r
      else
        others[#others + 1] = r
        n.reap = math.min(n.reap, end_us(n, r))
      end
    end
  end
  return others, reaped
end

-- The leases of others are read only where they matter: to be shared with, waited for, or ended.
local function others_of(n, r, leases_key)
  local waiting = n.waiting - (r.ticket > 0 and 1 or 0)
  local must = n.kind == RATE or waiting > 0 or now > n.reap
    or n.reap > now + 2 * longest + JUMP_US
  if n.live - (r.is_live and 1 or 0) > 0 and must then
    return reap(n, leases_key, r.holder)
  end
  if n.live - (r.is_live and 1 or 0) == 0 then n.reap = MOST end
  return {}, {}
end

-- What it had is taken off first, so that no sum on the way is too large for a double.
local function take_stock(n, r, c)
  n.stranded = n.stranded - r.stranded
  r.stranded = 0
  n.used = n.used - r.counted + c.used
  r.counted, r.epoch = c.used, c.epoch
  if n.kind == RATE then
    n.shares, n.caps = n.shares - r.share + c.share, n.caps - r.cap + c.cap
    r.share, r.cap, r.demand = c.share, c.cap, c.demand
  else
    n.out = n.out - r.units + c.held
    r.units = c.held
  end
end

local function grant(n, r, others, c)
  if now < n.recover or n.latch ~= '' or c.last == 1 then return 0 end
  local free = n.value - n.used - n.out - n.stranded - ahead(r, others)
  local holders = n.live - (r.is_live and 1 or 0) + 1
  local part = -div(-free, 2 * holders)
  local units = math.max(0, math.min(free, math.max(c.need, math.min(c.want, part))))
  if c.waits == 1 and units < c.head then return 0 end
  r.units, n.out = r.units + units, n.out + units
  return units
end

-- The share a holder has when all of them are balanced.
local function due_of(n, r, others)
  return math.min(r.demand * FINE, fair(n.value * FINE, r, others))
end

local function part_of(n, r, others, c)
  local all = n.value * FINE
  local free = math.max(0, all - (n.shares - r.share))
  local due = due_of(n, r, others)
  local share = math.min(due, free)
  if share > r.share then share = math.min(share, r.share - div(r.share - free, 2)) end
  local room = math.max(0, n.burst - (n.caps - r.cap) - ahead(r, others))
  local part = math.min(room, (muldiv(n.burst, due, all)))
  local head = r.demand > 0 and c.head or 0
  if part == 0 or (c.waits == 1 and part < head) then return 0, math.min(room, head) end
  return share, math.min(room, math.max(1, head, (muldiv(n.burst, share, all))))
end

local function divide(n, r, others, c)
  local share, cap = r.share, r.cap
  if c.last == 1 then
    share, cap = 0, 0
  elseif now >= n.recover then
    share, cap = part_of(n, r, others, c)
  end
  n.shares, n.caps = n.shares - r.share + share, n.caps - r.cap + cap
  r.share, r.cap = share, cap
end

local function pour(n, r, others, c)
  local units = r.cap - c.held
  if units > 0 and c.last == 0 then
    if now < n.recover or n.latch ~= '' or r.demand == 0 then
      units = 0
    else
      units = math.max(0, math.min(units, n.level - ahead(r, others)))
    end
  end
  if r.share == 0 then  -- nothing comes into its bucket by itself, so it needs no room for more
    local cap = math.max(0, c.held + units)
    n.caps = n.caps - r.cap + cap
    r.cap = cap
  end
  n.level = n.level - units
  clip(n)
  return units
end

local function stand_in_line(n, r, c, granted)
  local has = granted
  if n.kind == RATE then has = r.share ~= 0 and r.cap or c.held + granted end
  if r.ticket > 0 and r.is_live then n.waiting = n.waiting - 1 end
  if c.waits == 1 and has < c.head and c.last == 0 then
    r.head = c.head
    if r.ticket == 0 then r.ticket = now end
  else
    r.head, r.ticket = 0, 0
  end
  if r.ticket > 0 then n.waiting = n.waiting + 1 end
end

-- When enough will have come for a holder in line, and for those before it.
local function turn_us(n, r, others, has)
  local fine = math.max(1, n.value * FINE - n.shares)
  local up, down = ratio(n)
  local short = (ahead(r, others) + r.head - has - n.level) * MICRO - n.micro
  local third = div(r.ttl, 3)
  if short <= 0 then return LEAST_RETRY_US end
  if short / up * (down / fine) > third + 1 then return math.max(LEAST_RETRY_US, third) end
  local turn, rest = muldiv(short, down, fine * up)
  if rest > 0 then turn = turn + 1 end
  return math.max(LEAST_RETRY_US, math.min(turn, third))
end

local function retry_ms(n, r, others, c, granted)
  if now < n.recover then return -div(now - n.recover, 1000) end
  local retry = math.max(LEAST_RETRY_US, math.min(MOST_RETRY_US, div(r.ttl, 20)))
  if n.kind == RATE then
    local due = due_of(n, r, others)
    local is_short = r.share < due and n.burst * due >= n.value * FINE
    if r.ticket > 0 then retry = turn_us(n, r, others, c.held + granted) end
    return (r.ticket > 0 or is_short) and -div(-retry, 1000) or -1
  end
  if granted >= c.need then return -1 end
  if n.out == r.units then  -- nobody else has any to give back
    retry = math.max(LEAST_RETRY_US, math.min(MOST_RETRY_US, div(r.ttl, 5)))
  end
  return div(retry, 1000)
end

local function answer_of(n, r, others, c, granted, node_key)
  local flags, news = 0, ''
  for _, other in ipairs(others) do
    if other.ticket > 0 then flags = 1 end
  end
  if c.revision ~= n.revision then
    flags = flags + 2
    news = struct.pack(TERMS, n.kind, n.value, n.period, n.burst, n.free)
      .. redis.call('HGET', node_key, 'definition')
  end
  return struct.pack(ANSWER, c.epoch, now < n.recover and RECOVERING or OK, granted,
    r.share, r.cap, n.used, n.out, n.stranded, retry_ms(n, r, others, c, granted), flags,
    n.revision, #n.latch) .. n.latch .. news
end

-- The oldest lines are summed up, so that the rest and these sums are the balances.
local function write_line(n, journal_key, holder, epoch, used, out, stranded)
  local line = string.format('%.0f %.0f %.0f %.0f ', epoch, used, out, stranded) .. holder
  if redis.call('RPUSH', journal_key, line) <= MAX_LINES then return end
  for _, old in ipairs(redis.call('LRANGE', journal_key, 0, MAX_FOLDED - 1)) do
    local a, b, c = string.match(old, '^%S+ (%S+) (%S+) (%S+) ')
    n.base_used, n.base_out = n.base_used + a, n.base_out + b
    n.base_stranded = n.base_stranded + c
  end
  redis.call('LTRIM', journal_key, MAX_FOLDED, -1)
end

local function bury(at, r, answer)
  redis.call('HDEL', KEYS[at + 1], r.holder)
  redis.call('HSET', KEYS[at + 2], r.holder, lease_text(r, answer))
  redis.call('ZADD', KEYS[at + 3], string.format('%.0f', r.expires), r.holder)
  local oldest = string.format('(%.0f', now - TOMBSTONE_US)
  local gone = redis.call('ZRANGEBYSCORE', KEYS[at + 3], '-inf', oldest, 'LIMIT', 0, MAX_PURGED)
  if #gone > 0 then
    redis.call('HDEL', KEYS[at + 2], unpack(gone))
    redis.call('ZREM', KEYS[at + 3], unpack(gone))
  end
end

-- The claiming holder's lease, and the answer to its last claim.
local function find(at, holder)
  local text = redis.call('HGET', KEYS[at + 1], holder)
  local is_live, was_over = text ~= false, false
  if not text then
    text = redis.call('HGET', KEYS[at + 2], holder)
    was_over = text ~= false
  end
  local r
  if text then
    r = read_lease(text)
    r.answer = string.sub(text, LEASE_SIZE + 1)
  end
  if not r or (was_over and r.expires < now - TOMBSTONE_US) then
    r = {epoch = 0, counted = 0, units = 0, stranded = 0, head = 0, ticket = 0,
      expires = 0, ttl = 0, demand = 0, share = 0, cap = 0}
  end
  r.holder, r.is_live, r.was_over = holder, is_live, was_over
  return r
end

local function save(at, n, r, reaped, is_over, answer, changes)
  for _, old in ipairs(reaped) do
    bury(at, old, old.answer)
    if old.journalled ~= 0 then
      write_line(n, KEYS[at + 4], old.holder, old.epoch, 0, -old.journalled, old.stranded)
    end
  end
  if changes[1] ~= 0 or changes[2] ~= 0 or changes[3] ~= 0 then
    write_line(n, KEYS[at + 4], r.holder, r.epoch, changes[1], changes[2], changes[3])
  end
  if is_over then
    bury(at, r, answer)
  else
    redis.call('HSET', KEYS[at + 1], r.holder, lease_text(r, answer))
    n.reap = math.min(n.reap, end_us(n, r))
    if r.was_over then
      redis.call('HDEL', KEYS[at + 2], r.holder)
      redis.call('ZREM', KEYS[at + 3], r.holder)
    end
  end
  n.live = n.live - (r.is_live and 1 or 0) + (is_over and 0 or 1)
  redis.call('HSET', KEYS[at], 'state', node_text(n))
end

-- What a server that is not the one before, or whose clock was put back, makes of a node.
local function set_right(n)
  n.recover = math.max(n.recover, service_recover)
  if n.recover > now + longest + JUMP_US then n.recover = now + longest end
  if n.anchor > now + JUMP_US then n.anchor = now end
end

local function sync(at, holder, text)
  local c = read_claim(text)
  local stored = redis.call('HMGET', KEYS[at], 'state', 'latch')
  local n = stored[1] and read_node(stored[1])
  if not n or n.deleted == 1 then return answer_text(c.epoch, UNDEFINED, 0) end
  n.latch = stored[2] or ''
  local r = find(at, holder)
  if r.answer and c.epoch == r.epoch then
    if writes_repeats then  -- so that WAITAOF waits for what another connection wrote
      redis.call('HSET', KEYS[r.is_live and at + 1 or at + 2], holder, lease_text(r, r.answer))
    end
    return r.answer
  end
  if c.epoch < r.epoch then return answer_text(c.epoch, STALE, n.revision) end
  set_right(n)
  if c.epoch > r.epoch + 1 then n.recover = math.max(n.recover, now + c.ttl) end
  refill(n, now)
  local shares = n.shares
  local others, reaped = others_of(n, r, KEYS[at + 1])
  local used, out, stranded = n.used, n.out, n.stranded
  take_stock(n, r, c)
  r.expires, r.ttl = now + c.ttl, c.ttl
  local is_over = c.last == 1 and (n.kind == RATE or c.held == 0)
  local granted
  if n.kind == RATE then
    divide(n, r, others, c)
    granted = pour(n, r, others, c)
  else
    granted = grant(n, r, others, c)
  end
  if math.abs(n.used) > MOST or math.abs(n.out) > MOST or n.stranded > MOST then
    return answer_text(c.epoch, TOO_LARGE, n.revision)  -- it would be rounded: nothing is written
  end
  stand_in_line(n, r, c, granted)
  if is_over then r.demand = 0 end
  if n.shares ~= shares then n.anchor = math.max(n.anchor, now) end
  n.touched = now
  local answer = answer_of(n, r, others, c, granted, KEYS[at])
  save(at, n, r, reaped, is_over, answer, {n.used - used, n.out - out, n.stranded - stranded})
  return answer
end

local given, expected, has_jumped, ttl, repeats = struct.unpack('<ddddd', ARGV[2])
now = time_us(given)
writes_repeats = repeats == 1
if expected >= 0 and has_jumped == 0 and math.abs(now - expected) > JUMP_US then
  return struct.pack('<ddd', ARGV[1], now, 1)  -- nobody waits for it any more, or it is said again
end
service_recover, longest = guard(KEYS[1], KEYS[2], now, ttl, has_jumped == 1)
if not service_recover then return redis.error_reply(longest) end
local answers = {struct.pack('<ddd', ARGV[1], now, 0)}
for at = 3, #ARGV, 2 do
  local answer = sync(3 + (at - 3) / 2 * 5, ARGV[at], ARGV[at + 1])
  answers[#answers + 1] = struct.pack('<d', #answer)
  answers[#answers + 1] = answer
end
return table.concat(answers)
