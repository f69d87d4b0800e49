-- Keep usage events. The numbers of a holder grow, so the highest one tells which are known.
-- KEYS: usage; for each holder the highest number. ARGV: tag, how many events are kept, how long
-- a number is known; of each event: which key, holder, number, timestamp, text.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = last and tonumber(string.match(last[1], '^%d+')) or 0
local known, highest, is_new = {}, {}, {}
for at = 2, #KEYS do
  known[at] = tonumber(redis.call('GET', KEYS[at]) or -1)
  highest[at] = known[at]
end
for at = 4, #ARGV, 5 do
  local key, number = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local name = key .. ' ' .. ARGV[at + 2]
  if number > known[key] and not is_new[name] then
    id = id + 1
    is_new[name] = true
    highest[key] = math.max(highest[key], number)
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], string.format('%.0f-0', id),
      'h', ARGV[at + 1], 'n', ARGV[at + 2], 't', ARGV[at + 3], 'e', ARGV[at + 4])
  end
end
for at = 2, #KEYS do
  if highest[at] >= 0 then
    redis.call('SET', KEYS[at], string.format('%.0f', highest[at]), 'EX', ARGV[3])
  end
end
return {ARGV[1]}
