-- What all scripts share: exact numbers, the rows, the server's identity and time.
--
-- Lua's numbers are doubles: whole numbers up to 2^53 are exact for + and -. Rows are kept as
-- little-endian doubles (`rows.py` reads the same), which no conversion to text can round.
local FINE, MICRO, MOST = 1024, 1000000, 9007199254740991
local CAPACITY, RATE, CONCURRENCY = 0, 1, 2
local JUMP_US = 5000000
local TOMBSTONE_US = 86400 * MICRO
local FORGOTTEN_SECONDS = 30 * 86400  -- how long a deleted node keeps its revision

-- floor(a / b). A plain division may round up to the next whole number; fmod is exact.
local function div(a, b)
  local rest = math.fmod(a, b)
  if rest < 0 then rest = rest + b end
  return (a - rest) / b
end

-- a * b as two doubles, without error (Dekker, 1971).
local function product(a, b)
  local top = a * b
  local c = 134217729 * a
  local a_high = c - (c - a)
  local a_low = a - a_high
  c = 134217729 * b
  local b_high = c - (c - b)
  local b_low = b - b_high
  return top, ((a_high * b_high - top) + a_high * b_low + a_low * b_high) + a_low * b_low
end

-- floor(a * b / d) and what is left: exact for whole numbers below 2^51 and such a result.
local function muldiv(a, b, d)
  local top, low = product(a, b)
  local result = math.floor(top / d)
  local back, back_low = product(result, d)
  local rest = (top - back) + (low - back_low)
  while rest < 0 do
    result, rest = result - 1, rest + d
  end
  while rest >= d do
    result, rest = result + 1, rest - d
  end
  return result, rest
end

local NODE = '<' .. string.rep('d', 24)

local function read_node(text)
  local n = {}
  n.kind, n.value, n.period, n.burst, n.free, n.revision,
    n.used, n.out, n.stranded, n.level, n.micro, n.anchor, n.shares, n.caps,
    n.recover, n.touched, n.deleted, n.live, n.waiting, n.reap,
    n.base_used, n.base_out, n.base_stranded, n.unused = struct.unpack(NODE, text)
  return n
end

local function node_text(n)
  return struct.pack(NODE,
    n.kind, n.value, n.period, n.burst, n.free, n.revision,
    n.used, n.out, n.stranded, n.level, n.micro, n.anchor, n.shares, n.caps,
    n.recover, n.touched, n.deleted, n.live, n.waiting, n.reap,
    n.base_used, n.base_out, n.base_stranded, 0)
end

local LEASE = '<' .. string.rep('d', 11)
local LEASE_SIZE = 88  -- bytes; the last answer follows

local function read_lease(text)
  local r = {}
  r.epoch, r.counted, r.units, r.stranded, r.head, r.ticket,
    r.expires, r.ttl, r.demand, r.share, r.cap = struct.unpack(LEASE, text)
  return r
end

local function lease_text(r, answer)
  return struct.pack(LEASE,
    r.epoch, r.counted, r.units, r.stranded, r.head, r.ticket,
    r.expires, r.ttl, r.demand, r.share, r.cap) .. answer
end

-- Microseconds since the epoch; `given` is a test's clock, less than 0 where there is none.
local function time_us(given)
  if given >= 0 then return given end
  local time = redis.call('TIME')
  return time[1] * MICRO + time[2]
end

-- Of the service: until when nothing is granted, and the longest ttl. A server that is not the
-- one that wrote this store may have an older copy of it: it was restarted, or was a replica. It
-- is asked here, and not when the client connects, since a proxy may change servers in between.
local function guard(meta_key, nodes_key, now, ttl, has_jumped)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  if not run then return nil, 'ERR the server tells no run_id' end
  local meta = redis.call('HMGET', meta_key, 'run', 'ttl', 'recover')
  local known, longest = meta[1], tonumber(meta[2] or 0)
  local recover = tonumber(meta[3] or 0)
  if ttl > longest then
    longest = ttl
    redis.call('HSET', meta_key, 'ttl', string.format('%.0f', ttl))
  end
  if recover > now + longest + JUMP_US then recover = now + longest end  -- it was put back
  local is_first = not known and redis.call('ZCARD', nodes_key) == 0
  if known ~= run or has_jumped then
    if not is_first then recover = math.max(recover, now + longest) end
    redis.call('HSET', meta_key, 'run', run, 'recover', string.format('%.0f', recover))
  end
  return recover, longest
end

local function clip(n)
  local full = math.max(0, n.burst - n.caps)
  if n.level >= full then n.level, n.micro = full, 0 end
end

-- 1,000,000 : 1,024 periods, in lowest terms as far as such numbers have factors in common.
local function ratio(n)
  local up, down = 15625, n.period * 16
  while math.fmod(up, 5) == 0 and math.fmod(down, 5) == 0 do up, down = up / 5, down / 5 end
  return up, down
end

-- Put into the ledger's own bucket what has come since, but for the shares of holders: exact in
-- millionths of a unit, but for rates of more than 2^41 units, where a double loses its last bits.
local function refill(n, now)
  if n.kind ~= RATE then return end
  local passed = math.max(0, now - n.anchor)
  local fine = math.max(0, n.value * FINE - n.shares)
  local full = math.max(0, n.burst - n.caps)
  local up, down = ratio(n)
  local guess = passed / n.period * (fine / FINE)
  local units, micro, rest = 0, 0, 0
  if fine * up < down and fine > 0 then
    -- Less than a millionth in a microsecond: the time that makes no whole one counts next time.
    micro, rest = muldiv(passed * up, fine, down)
    passed = passed - div(rest, fine * up)
  elseif guess * (1 - 1e-12) > full - n.level + 1 then
    n.level, n.micro = full, 0
  elseif guess < 4294967296 then  -- the millionths fit into a double
    micro = muldiv(passed * up, fine, down)
  else
    units, rest = muldiv(passed, fine, n.period * FINE)
    micro = muldiv(rest, MICRO, n.period * FINE)
  end
  local whole = div(n.micro + micro, MICRO)
  n.level, n.micro = n.level + units + whole, n.micro + micro - whole * MICRO
  n.anchor = n.anchor + passed
  clip(n)
end
