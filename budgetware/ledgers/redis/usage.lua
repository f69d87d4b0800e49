-- Look through the next events for those of a time.
-- KEYS: usage. ARGV: tag, after which, since, until, how many to look at.
-- Returns the tag, the last one looked at ('' at the end), and of each one found: id, fields.
local since, before = tonumber(ARGV[3]), tonumber(ARGV[4])
local first = string.format('%.0f-0', ARGV[2] + 1)
local reply = {ARGV[1], ''}
local events = redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', ARGV[5])
for _, event in ipairs(events) do
  local fields = event[2]
  local time = tonumber(fields[6])
  if time >= since and time < before then
    for _, text in ipairs({event[1], fields[2], fields[4], fields[6], fields[8]}) do
      reply[#reply + 1] = text
    end
  end
end
if #events == tonumber(ARGV[5]) then reply[2] = events[#events][1] end
return reply
