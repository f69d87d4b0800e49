-- Keep usage events, and add up what they say by the hour. The numbers of a holder grow, so the
-- highest one tells which are known.
-- KEYS: usage; hours; for each holder the highest number. ARGV: tag, how many events are kept, how
-- long a number is known, how long an hour, since when events are kept, what the keys of hours begin
-- with; of each event: which key, holder, number, timestamp, text, how many numbers it adds; of each
-- of those: the hour, the field, how much.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = last and tonumber(string.match(last[1], '^%d+')) or 0
local known, highest, is_new, hours = {}, {}, {}, {}
for at = 3, #KEYS do
  known[at] = tonumber(redis.call('GET', KEYS[at]) or -1)
  highest[at] = known[at]
end
local at = 7
while at <= #ARGV do
  local key, number = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local count = tonumber(ARGV[at + 5])
  local name = key .. ' ' .. ARGV[at + 2]
  if number > known[key] and not is_new[name] then
    id = id + 1
    is_new[name] = true
    highest[key] = math.max(highest[key], number)
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], string.format('%.0f-0', id),
      'h', ARGV[at + 1], 'n', ARGV[at + 2], 't', ARGV[at + 3], 'e', ARGV[at + 4])
    for field = at + 6, at + 3 + 3 * count, 3 do
      redis.call('HINCRBY', ARGV[6] .. ARGV[field], ARGV[field + 1], ARGV[field + 2])
      hours[ARGV[field]] = true
    end
  end
  at = at + 6 + 3 * count
end
for at = 3, #KEYS do
  if highest[at] >= 0 then
    redis.call('SET', KEYS[at], string.format('%.0f', highest[at]), 'EX', ARGV[3])
  end
end
for ends in pairs(hours) do
  redis.call('ZADD', KEYS[2], ends, ends)
  if ends ~= '0' then
    redis.call('EXPIREAT', ARGV[6] .. ends, string.format('%.0f', ends + ARGV[4]))
  end
end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], 1, string.format('%.0f', now - ARGV[4]))
-- The old ones: a few more than came, so that all of them go in the end.
local oldest = tonumber(ARGV[5])
for _, event in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2 * #KEYS + 16)) do
  if tonumber(event[2][6]) >= oldest or event[1] == string.format('%.0f-0', id) then break end
  redis.call('XDEL', KEYS[1], event[1])
end
return {ARGV[1]}
