-- One transaction of the knowledge: check, then write, then tell. All of it happens, or none.
--
-- KEYS: fence, version, changes
-- ARGV: fencing token ('' where none is needed), then the operations: name, count of arguments, arguments
-- Returns {'done', keys that were dropped because they were of a foreign type...}, or {'lost'}, or
-- {'unexpected', what was found}.

local FENCE, VERSION, CHANGES = KEYS[1], KEYS[2], KEYS[3]
local MOST_ENTRIES = 100000 -- where a stamp from the far future keeps a stream from being trimmed by time

local TYPE_OF = {
  merge = 'hash', replace = 'hash', remove = 'hash', forget = 'hash', expect = 'hash', put = 'string',
  push = 'list', rank = 'zset', unrank = 'zset', happen = 'stream', arrive = 'stream', tell = 'stream',
}
local news = false

-- What a record says apart from when it was said: a price that is only repeated is no news.
local function gist(value)
  return value and (string.gsub(value, '"at":"[^"]*"', ''))
end

local function set_field(key, field, value)
  if gist(redis.call('HGET', key, field)) ~= gist(value) then news = true end
  redis.call('HSET', key, field, value)
end

-- An operation is a table, key first: an unpacked one could be longer than Lua's stack.
local WRITE = {}

function WRITE.merge(o)
  for i = 2, #o, 2 do set_field(o[1], o[i], o[i + 1]) end
end

function WRITE.replace(o)
  local kept = {}
  for i = 2, #o, 2 do kept[o[i]] = true end
  for _, field in ipairs(redis.call('HKEYS', o[1])) do
    if not kept[field] then
      news = true
      redis.call('HDEL', o[1], field)
    end
  end
  WRITE.merge(o)
end

function WRITE.remove(o)
  if redis.call('HDEL', o[1], o[2]) == 1 then news = true end
end

function WRITE.forget(o)
  if redis.call('HGET', o[1], o[2]) == o[3] then redis.call('HDEL', o[1], o[2]) end
end

function WRITE.put(o)
  if gist(redis.call('GET', o[1])) ~= gist(o[2]) then news = true end
  redis.call('SET', o[1], o[2])
end

function WRITE.push(o)
  news = true
  redis.call('RPUSH', o[1], o[2])
end

function WRITE.rank(o)
  redis.call('ZADD', o[1], o[2], o[3])
end

function WRITE.unrank(o)
  redis.call('ZREM', o[1], o[2])
end

function WRITE.drop(o)
  redis.call('DEL', o[1])
end

function WRITE.expect() end

-- The last id may be younger than the newest entry, and no new one may be older than it.
local function last_stamp(key)
  if redis.call('EXISTS', key) == 0 then return 0 end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local function append(key, stamp, keep, ...)
  stamp = math.max(tonumber(stamp), last_stamp(key))
  local oldest = string.format('%.0f', math.max(stamp - tonumber(keep), 0))
  redis.call('XADD', key, 'MINID', '=', oldest, string.format('%.0f-*', stamp), ...)
  redis.call('XTRIM', key, 'MAXLEN', '~', MOST_ENTRIES)
end

function WRITE.happen(o)
  news = true
  append(o[1], o[2], o[3], 'record', o[4])
end

-- What comes from many clocks is filed under our own: one that is ahead would keep it all from being trimmed.
function WRITE.arrive(o)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if last_stamp(o[1]) > now + tonumber(o[2]) then redis.call('DEL', o[1]) end
  news = true
  append(o[1], now, o[2], 'record', o[3])
end

function WRITE.tell(o)
  if not news then return end
  if o[6] == '1' then redis.call('INCR', VERSION) end
  append(CHANGES, o[4], o[5], 'kind', o[2], 'subject', o[3])
end

if ARGV[1] ~= '' and redis.call('GET', FENCE) ~= ARGV[1] then return {'lost'} end

local operations, answer, at = {}, {'done'}, 2
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  local operation = {name = ARGV[at]}
  for i = 1, count do operation[i] = ARGV[at + 1 + i] end
  operations[#operations + 1] = operation
  at = at + 2 + count
end

-- Whatever can go wrong is looked at before the first write: Redis doesn't take back half a script.
for _, operation in ipairs(operations) do
  operation.found = redis.call('TYPE', operation[1]).ok
  if operation.name == 'expect' then
    local value = operation.found == 'hash' and redis.call('HGET', operation[1], operation[2]) or ''
    if value ~= operation[3] then return {'unexpected', value} end
  end
end
for _, operation in ipairs(operations) do
  local wanted = TYPE_OF[operation.name]
  if wanted and operation.found ~= 'none' and operation.found ~= wanted then
    if redis.call('DEL', operation[1]) == 1 then answer[#answer + 1] = operation[1] end
  end
end

if redis.call('TYPE', VERSION).ok ~= 'string' or not tonumber(redis.call('GET', VERSION)) then
  redis.call('SET', VERSION, '0')
end

for _, operation in ipairs(operations) do WRITE[operation.name](operation) end
return answer
