"""What is done on the server, in one step each.

A commit is compare and set: whoever read a session knows its header and computes the next one, by the rules that are in
the core, once for all stores; the script writes it where the header is still the same, and otherwise answers the one
that is there.  Places in a header and in a record are those of `_layout`, counted from 1.

What is damaged ends a script before it writes anything, or comes back as it is, for the reader to say what is wrong.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final, NamedTuple

from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES, SLIDE

from ._layout import CHANGES, RECORDS


class Script(NamedTuple):
    """A script and the name that the server gives it."""

    text: bytes
    sha: bytes


DAMAGED: Final = "turnlog: damaged"
"""What the server's error holds where a script has met damage."""

TEXTS: Final[dict[object, bytes]] = {}
"""The text of each script, by the name that the server gives it: what it is sent where it does not know that."""


def _script(text: str) -> Script:
    data = (_SHARED + text).encode()
    script = Script(data, sha1(data, usedforsecurity=False).hexdigest().encode())
    TEXTS[script.sha] = data
    return script


_SHARED: Final = f"""
local function number(data, place)
  local value = data and #data >= place + 7 and struct.unpack('>d', data, place)
  if not value or not (value >= -1 and value <= {MAX_NUMBER}) then error('{DAMAGED}') end
  return value
end

-- of the numbers of a header; unpacking also gives the place behind them, 89
local function sum(numbers)
  return bit.bxor(89, struct.unpack('>{"I4" * 22}', numbers))
end

local function extend(key, header, default)
  local ttl = number(header, 73)
  if ttl < 0 then ttl = tonumber(default) or 0 end
  local left = redis.call('PTTL', key)
  if ttl == 0 then
    if left >= 0 then redis.call('PERSIST', key) end
    return -1
  end
  local whole = math.max(1, math.floor(ttl * 1000))
  if left > whole * {SLIDE} and left <= whole then return left end
  redis.call('PEXPIRE', key, whole)
  return whole
end

local function slide(key, header, default)
  -- a time to live that is damaged must not end the session
  if #header < 92 or bit.tobit((struct.unpack('>I4', header, 89))) ~= sum(header) then
    return redis.call('PTTL', key)
  end
  return extend(key, header, default)
end

local function search(key, place, wanted)
  local low, high = {RECORDS}, redis.call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if number(redis.call('LINDEX', key, middle), place) < wanted then low = middle + 1 else high = middle end
  end
  return low
end

local function known(key, hashes, hash)
  local short = string.sub(hash, 1, 4)
  if not hashes or redis.call('LLEN', key) < {RECORDS} or #hashes % 4 ~= 0 or #hashes == 0 then error('{DAMAGED}') end
  local place = string.find(hashes, short, 1, true)
  while place do
    if place % 4 == 1 then
      local entry = redis.call('LINDEX', key, {CHANGES} + (place - 1) / 4)
      if string.sub(entry, 1, 16) == hash then return entry end
    end
    place = string.find(hashes, short, place + 1, true)
  end
  return nil
end

-- elements in the middle, which nothing else removes
local function remove(key, from, many)
  for place = from, from + many - 1 do redis.call('LSET', key, place, 'gone') end
  redis.call('LREM', key, many, 'gone')
end
"""

READ: Final = _script(f"""
-- the store's ttl, touch, last, before, epoch, generation and rounds of since
local key = KEYS[1]
local top = redis.call('LRANGE', key, 0, 1)
local header = top[1]
if not header then return false end
local left = ARGV[2] == '1' and slide(key, header, ARGV[1]) or redis.call('PTTL', key)
local answer = {{header, top[2] or '', left, '', {{}}}}
local last, before = tonumber(ARGV[3]), tonumber(ARGV[4])

if ARGV[5] ~= '' and string.sub(header, 57, 72) == ARGV[5] and number(header, 49) == tonumber(ARGV[6]) then
  local rounds = tonumber(ARGV[7])
  local now = number(header, 41)
  if rounds == now then
    answer[4] = 'same'
    return answer
  end
  if rounds < now then
    if rounds == 0 and number(header, 25) == 0 then
      answer[4], answer[5] = 'all', redis.call('LRANGE', key, {RECORDS}, -1)
      return answer
    end
    local place = search(key, 41, rounds)
    local at = redis.call('LINDEX', key, place)
    if at and number(at, 41) == rounds then
      answer[4], answer[5] = 'after', redis.call('LRANGE', key, place, -1)
      return answer
    end
  end
end

if last == 0 then return answer end
local stop = redis.call('LLEN', key) - 1
if before then stop = search(key, 1, before) - 1 end
if stop < {RECORDS} then return answer end
local from = {RECORDS}
if last then
  local some = math.floor((last + 1) / 2)
  while true do
    from = math.max({RECORDS}, stop - some + 1)
    local rows = redis.call('LRANGE', key, from, stop)
    local held = number(rows[#rows], 25) - number(rows[1], 25) + number(rows[1], 17)
    if from == {RECORDS} or (held >= last and number(rows[1], 9) > 0) then
      answer[5] = rows
      return answer
    end
    some = some * 2
  end
end
answer[5] = redis.call('LRANGE', key, from, stop)
return answer
""")

TOP: Final = _script("""
-- the store's ttl, touch
local top = redis.call('LRANGE', KEYS[1], 0, 1)
local header = top[1]
if not header then return false end
local left = ARGV[2] == '1' and slide(KEYS[1], header, ARGV[1]) or redis.call('PTTL', KEYS[1])
return {header, top[2] or '', left, redis.call('LLEN', KEYS[1])}
""")

LOOK: Final = _script("""
-- the change's hash, or nothing; the store's ttl
local top = redis.pcall('LRANGE', KEYS[1], 0, 2)
if top.err then return {'no list', '', -1, ''} end
if not top[1] then return false end
local entry = ARGV[1] ~= '' and known(KEYS[1], top[3], ARGV[1])
return {top[1], top[2] or '', entry and slide(KEYS[1], top[1], ARGV[2]) or redis.call('PTTL', KEYS[1]), entry or ''}
""")

COMMIT: Final = _script(f"""
-- the change's hash, the header that was seen, what to remember, the next header, how many elements to keep, the turn
-- before which to drop, the most bytes, the metadata, the store's ttl, the session, its owner before and now, what its
-- neighbours and the indexes of owners begin with, and the records, from here on
local key, new = KEYS[1], 15
local top = redis.call('LRANGE', key, 0, 2)
local seen, hashes = top[1] or '', top[3] or ''
local entry = seen ~= '' and known(key, top[3], ARGV[1])
if entry then return {{'repeat', seen, slide(key, seen, ARGV[9]), entry}} end
if seen ~= ARGV[2] then
  if seen == '' then return {{'moved', '', 0, ''}} end
  return {{'moved', seen, redis.call('PTTL', key), top[2] or ''}}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local stamp = struct.pack('>d', now)
local header = ARGV[4]
local places, bytes = string.sub(header, 17, 40), nil  -- first, start and bytes
local count = seen ~= '' and number(seen, 81) or 0

-- what is dropped at the beginning, of what is stored and of what comes
local drop, skip = 0, 0
if ARGV[6] ~= '' then
  local first, start = number(header, 17), number(header, 25)
  bytes = number(header, 33)
  local wanted = tonumber(ARGV[6])
  local stored = seen ~= '' and redis.call('LLEN', key) or 0
  if ARGV[5] ~= '' then stored = tonumber(ARGV[5]) end
  while true do
    local inside = {RECORDS} + drop < stored
    local record = nil
    if inside then record = redis.call('LINDEX', key, {RECORDS} + drop) else record = ARGV[new + skip] end
    if not record then break end
    local at, turns = number(record, 1), number(record, 9)
    if at + math.max(turns, 1) > wanted then
      first, start = at, number(record, 25) - number(record, 17)
      break
    end
    bytes = bytes - number(record, 33)
    if inside then drop = drop + 1 else skip = skip + 1 end
  end
  places = struct.pack('>ddd', first, start, bytes)
end
if ARGV[7] ~= '' then
  bytes = bytes or number(header, 33)
  if bytes > tonumber(ARGV[7]) and bytes > (seen ~= '' and number(seen, 33) or 0) then return {{'large', bytes}} end
end

-- a header without a time is one that is changed now
if number(header, 9) == 0 then
  header = (seen ~= '' and string.sub(seen, 1, 8) or stamp) .. stamp .. string.sub(header, 17)
end
local numbers = string.sub(header, 1, 16) .. places .. string.sub(header, 41, 80) .. struct.pack('>d', count + 1)
header = numbers .. struct.pack('>I4', sum(numbers)) .. string.sub(header, 93)

local place = count % {REMEMBERED_CHANGES}
hashes = string.sub(hashes, 1, place * 4) .. string.sub(ARGV[1], 1, 4) .. string.sub(hashes, place * 4 + 5)
if seen == '' then
  redis.call('RPUSH', key, header, ARGV[8], hashes, ARGV[3])
  local empty = {{}}
  for i = 1, {REMEMBERED_CHANGES} - 1 do empty[i] = '' end
  redis.call('RPUSH', key, unpack(empty))
else
  if ARGV[5] ~= '' then redis.call('LTRIM', key, 0, tonumber(ARGV[5]) - 1) end
  if drop > 0 then remove(key, {RECORDS}, drop) end
  redis.call('LSET', key, 0, header)
  redis.call('LSET', key, 2, hashes)
  redis.call('LSET', key, {CHANGES} + place, ARGV[3])
  if ARGV[8] ~= '' then redis.call('LSET', key, 1, ARGV[8]) end
end
local place = new + skip
while place <= #ARGV do
  redis.call('RPUSH', key, unpack(ARGV, place, math.min(place + 999, #ARGV)))
  place = place + 1000
end
local left = extend(key, header, ARGV[9])

now = number(header, 9)
local session, was, owner = ARGV[10], ARGV[11], ARGV[12]
redis.call('ZADD', KEYS[2], now, session .. '\\0' .. owner)
if owner ~= '' then redis.call('ZADD', KEYS[3], now, session) end
if was ~= owner then
  redis.call('ZREM', KEYS[2], session .. '\\0' .. was)
  if was ~= '' then redis.call('ZREM', KEYS[4], session) end
end
-- what has expired leaves its places in the index: every eighth commit of a session, the first among them, looks at 16,
-- so at most about every second place is of the dead; while a slot moves, a neighbour may be out of reach, and is left
if count % 8 == 0 then
  for _, other in ipairs(redis.call('ZRANDMEMBER', KEYS[2], 16)) do
    local stop = string.find(other, '\\0', 1, true)
    local name = string.sub(other, 1, stop - 1)
    if redis.pcall('EXISTS', ARGV[13] .. name) == 0 then
      redis.call('ZREM', KEYS[2], other)
      if stop < #other then redis.pcall('ZREM', ARGV[14] .. string.sub(other, stop + 1), name) end
    end
  end
end
return {{'stored', header, left}}
""")

DELETE: Final = _script("""
-- the header that was seen, or nothing; the session, and what the indexes of owners begin with
local header = redis.pcall('LINDEX', KEYS[1], 0)
if not header then return 0 end
if ARGV[1] ~= '' and header ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
local length = type(header) == 'string' and string.byte(header, 97)
if not length then return 1 end
local owner = string.sub(header, 98, 97 + length)
redis.call('ZREM', KEYS[2], ARGV[2] .. '\\0' .. owner)
if owner ~= '' then redis.pcall('ZREM', ARGV[3] .. owner, ARGV[2]) end
return 1
""")

AROUND: Final = _script(f"""
-- a turn: where the records of this and later ones begin, what those take, and the record before them
local key = KEYS[1]
local place = search(key, 1, tonumber(ARGV[1]))
local bytes = 0
for _, record in ipairs(redis.call('LRANGE', key, place, -1)) do bytes = bytes + number(record, 33) end
return {{
  redis.call('LINDEX', key, 0) or '', place, bytes, place > {RECORDS} and redis.call('LINDEX', key, place - 1) or ''
}}
""")

SEAL: Final = _script(f"""
-- the first and the last of the records that were read, without their payloads, how many they are, what takes their
-- place, the turn that it begins with, the rounds after it, whether the last of them may end the session
local key = KEYS[1]
local header = redis.call('LINDEX', key, 0)
if not header then return 0 end
local place, many = search(key, 1, tonumber(ARGV[5])), tonumber(ARGV[3])
local run = redis.call('LRANGE', key, place, place + many - 1)
if #run < many then return 0 end
if string.sub(run[1], 1, #ARGV[1]) ~= ARGV[1] or string.sub(run[many], 1, #ARGV[2]) ~= ARGV[2] then return 0 end
local bytes = number(header, 33)
for i = 1, many do bytes = bytes - number(run[i], 33) end
bytes = bytes + number(ARGV[4], 33)
-- so many more changes lead to the same place, and whoever compares headers notices a seal that saves no byte
local count = number(header, 81) + {REMEMBERED_CHANGES}
local numbers = string.sub(header, 1, 32) .. struct.pack('>d', bytes) .. string.sub(header, 41, 80)
  .. struct.pack('>d', count)
redis.call('LSET', key, 0, numbers .. struct.pack('>I4', sum(numbers)) .. string.sub(header, 93))
redis.call('LSET', key, place, ARGV[4])
remove(key, place + 1, many - 1)
return 1
""")

FORGET: Final = _script("""
-- a place in an index: removed, where the session is gone, or changed at another time: then that is another's place
local header, score = redis.call('LINDEX', KEYS[1], 0), redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or (header and number(header, 9) == tonumber(score)) then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
""")
