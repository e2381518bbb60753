"""The Lua scripts; each is one atomic step on the server.

A commit is a compare-and-set.  The backend computes the next header from the last seen one, by the rules of the core.
The script writes it if the stored header is still the same; otherwise it returns the stored header.  The tables in
`_layout` give the offsets of all numbers.

A script that finds damage stops before it writes, or returns the damaged data, and the reader reports it.

Writers that find a session changed wait in a queue, a list of their names (`line_of`).  The first element is the writer
that has received the session's header and is about to commit.  Until its commit, all other writers are refused.  After
it the first element is empty, until the next writer in the queue asks again and becomes the first.  In between, any
writer that knows the header may commit.  Thus a distant writer is not starved, and no writer waits for one that does
not return.  Redis drops the queue if its first writer does nothing for `LEASE`, because it may have been killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Final, NamedTuple

from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES, SLIDE

from ._connection import Argument, Command
from ._layout import CHANGES, HASH_BYTES, HEADER, RECORD, RECORDS, WORDS


class Script(NamedTuple):
    """A script and its name on the server, a hash of the text."""

    text: bytes
    sha: bytes

    def call(self, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Command:
        """Return the command that runs the script."""
        return (b"EVALSHA", self.sha, len(keys), *keys, *arguments)


DAMAGED: Final = "turnlog: damaged"
"""The server's error contains this text if a script has found damage."""

TEXTS: Final[dict[object, bytes]] = {}
"""The text of each script by its name; it is sent to a server that does not know the name."""

_FIRST: Final = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN")
"""The codes of errors with which a server refuses only the first write of a script."""

_WRITERS: Final[dict[object, int]] = {}
"""The index of the argument `writer` of each script that uses the queue, by the script's name and by its text."""


def without_line(command: Command) -> Command:
    """Return a command that does not use the queue, for a node that is taking over a slot.

    The queue may still be on the other node.  A second queue on this node would stop the move of the slot (`BUSYKEY`).
    """
    place = _WRITERS.get(command[1]) if command[0] in (b"EVALSHA", b"EVAL") else None
    if place is None:
        return command
    place += 3 + int(command[2])  # after the command, the script, the number of keys, and the keys
    return (*command[:place], b"", *command[place + 1 :])


def may_have_written(said: str) -> bool:
    """Return whether a script may have written before the server ended it with an error.

    A server does not undo the writes of a script.  For example, the user may lack the right to a later command.

    Args:
        said: The text of the error.  The server adds the line of the script, as `@user_script:147`.
    """
    before = DAMAGED in said or "WRONGTYPE" in said or said.startswith(_FIRST)
    return "user_script" in said and not before


def _script(arguments: str, text: str) -> Script:
    """Return a script.

    Args:
        arguments: The names of the first arguments; `more` is the index of the first argument after them.
        text: The body.
    """
    names = arguments.split()
    if names:
        text = f"local {', '.join(names)} = unpack(ARGV, 1, {len(names)})\nlocal more = {len(names) + 1}\n{text}"
    for function in reversed(_FUNCTIONS.split("\n\n")):  # each function uses only functions above it
        name = function.partition("function ")[2].partition("(")[0]
        if f"{name}(" in text:
            text = f"{function}\n{text}"
    data = text.encode()
    script = Script(data, sha1(data, usedforsecurity=False).hexdigest().encode())
    TEXTS[script.sha] = data
    if "writer" in names:
        _WRITERS[script.sha] = _WRITERS[data] = names.index("writer")
    return script


LEASE: Final = 250
"""Milliseconds until the queue is dropped if its first writer does nothing; a commit needs one round trip."""

_FUNCTIONS: Final = f"""local function number(data, offset)
  local value = data and #data >= offset + 7 and struct.unpack('>d', data, offset)
  if not value or not (value >= -1 and value <= {MAX_NUMBER}) then error('{DAMAGED}') end
  return value
end

local function put(data, offset, value)
  return string.sub(data, 1, offset - 1) .. struct.pack('>d', value) .. string.sub(data, offset + 8)
end

-- struct.unpack also returns the offset after the words; bit.bxor with the same number removes it
local function sum(header)
  return bit.bxor({HEADER["sum"]}, struct.unpack('>{"I4" * WORDS}', header))
end

local function summed(header)
  return string.sub(header, 1, {HEADER["sum"] - 1}) .. struct.pack('>I4', sum(header))
    .. string.sub(header, {HEADER["owner"]})
end

local function extend(key, header, default, restart)
  local ttl = number(header, {HEADER["ttl"]})
  if ttl < 0 then ttl = tonumber(default) or 0 end
  local left = redis.call('PTTL', key)
  if ttl == 0 then
    if left >= 0 then redis.call('PERSIST', key) end
    return -1
  end
  local whole = math.max(1, math.floor(ttl * 1000))
  if not restart and left > whole * {SLIDE} and left <= whole then return left end
  redis.call('PEXPIRE', key, whole)
  return whole
end

local function look(key, header, touch, default)
  -- a damaged time to live must not end the session
  if touch ~= '1' or #header < {HEADER["owner"]} then return redis.call('PTTL', key) end
  if bit.tobit((struct.unpack('>I4', header, {HEADER["sum"]}))) ~= sum(header) then return redis.call('PTTL', key) end
  -- a replica, or a user without the right, moves no expiry
  local moved, left = pcall(function() return extend(key, header, default) end)
  return moved and left or redis.call('PTTL', key)
end

-- the index of the first record whose number at an offset is at least the wanted one
local function search(key, offset, wanted)
  local low, high = {RECORDS}, redis.call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if number(redis.call('LINDEX', key, middle), offset) < wanted then low = middle + 1 else high = middle end
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
      if string.sub(entry, 1, {HASH_BYTES}) == hash then return string.sub(entry, {HASH_BYTES + 1}) end
    end
    place = string.find(hashes, short, place + 1, true)
  end
  return nil
end

-- the header, the metadata and the time to live of a session on a page; false if the session does not exist
local function seen_at(key)
  local head = redis.pcall('LRANGE', key, 0, 1)
  if head.err then return {{'no list', '', -1}} end
  return head[1] and {{head[1], head[2] or '', redis.call('PTTL', key)}} or false
end

local function owner_in(header)
  return string.sub(header, {HEADER.size + 1}, {HEADER.size} + (string.byte(header, {HEADER["owner"]}) or 0))
end

local function line_of(key)
  return (string.gsub(key, ':s:', ':w:', 1))
end

-- a writer's place in the queue, from 0; a new writer is added at the end.  While a slot moves, a queue that does not
-- exist yet cannot be created: then the place is 0
local function stand(line, writer)
  local first = redis.pcall('LINDEX', line, 0)
  if writer == '' or first == writer or type(first) == 'table' then return 0 end
  if not first then
    redis.pcall('RPUSH', line, writer)
  else
    local second = redis.call('LINDEX', line, 1)
    if first ~= '' or (second and second ~= writer) then
      return redis.call('LPOS', line, writer) or redis.call('RPUSH', line, writer) - 1
    end
    redis.call('LSET', line, 0, writer)
    if second then redis.call('LREM', line, -1, writer) end
  end
  redis.pcall('PEXPIRE', line, {LEASE})
  return 0
end

-- the first writer in the queue has committed, or gives up its place
local function pass(line)
  redis.call('LSET', line, 0, '')
  redis.call('PEXPIRE', line, {LEASE})
end

-- remove a namespace whose index in this bucket is empty.  While a slot moves, the set may be on the other node; then
-- `NAMESPACES` removes the entry later
local function unlist(index)
  local bucket, namespace = string.match(index, '^(.-}}):i:(.*)$')
  if redis.pcall('EXISTS', index) == 0 then redis.pcall('ZREM', bucket .. ':n', namespace) end
end

-- remove elements in the middle of the list
local function remove(key, from, many)
  for place = from, from + many - 1 do redis.call('LSET', key, place, 'gone') end
  redis.call('LREM', key, many, 'gone')
end"""

READ: Final = _script(
    "default touch last before epoch generation rounds",  # the backend's ttl; epoch, generation and rounds of `since`
    f"""
local key = KEYS[1]
local top = redis.call('LRANGE', key, 0, 1)
local header = top[1]
if not header then return false end
local answer = {{header, top[2] or '', look(key, header, touch, default), '', {{}}}}
last, before = tonumber(last), tonumber(before)

if epoch ~= '' and string.sub(header, {HEADER["epoch"]}, {HEADER["ttl"] - 1}) == epoch
  and number(header, {HEADER["generation"]}) == tonumber(generation) then
  local now = number(header, {HEADER["rounds"]})
  rounds = tonumber(rounds)
  if rounds == now then
    answer[4] = 'same'
    return answer
  end
  if rounds < now then
    if rounds == 0 and number(header, {HEADER["start"]}) == 0 then
      answer[4], answer[5] = 'all', redis.call('LRANGE', key, {RECORDS}, -1)
      return answer
    end
    local place = search(key, {RECORD["rounds_until"]}, rounds)
    local at = redis.call('LINDEX', key, place)
    if at and number(at, {RECORD["rounds_until"]}) == rounds then
      answer[4], answer[5] = 'after', redis.call('LRANGE', key, place, -1)
      return answer
    end
  end
end

if last == 0 then return answer end
local stop = redis.call('LLEN', key) - 1
if before then stop = search(key, {RECORD["number"]}, before) - 1 end
if stop < {RECORDS} then return answer end
local from = {RECORDS}
if last then
  local some = math.floor((last + 1) / 2)
  while true do
    from = math.max({RECORDS}, stop - some + 1)
    local rows = redis.call('LRANGE', key, from, stop)
    local ends = number(rows[#rows], {RECORD["messages_until"]})
    for place = #rows, 1, -1 do
      local held = ends - number(rows[place], {RECORD["messages_until"]}) + number(rows[place], {RECORD["count"]})
      if (held >= last and number(rows[place], {RECORD["turns"]}) > 0) or (place == 1 and from == {RECORDS}) then
        for later = place, #rows do table.insert(answer[5], rows[later]) end
        return answer
      end
    end
    some = some * 2
  end
end
answer[5] = redis.call('LRANGE', key, from, stop)
return answer
""",
)

TOP: Final = _script(
    "default touch",
    """
local top = redis.call('LRANGE', KEYS[1], 0, 1)
local header = top[1]
if not header then return false end
return {header, top[2] or '', look(KEYS[1], header, touch, default), redis.call('LLEN', KEYS[1])}
""",
)

LOOK: Final = _script(
    "hash",  # the hash of a change, or nothing
    """
local top = redis.pcall('LRANGE', KEYS[1], 0, 2)
if top.err then return {'no list', '', -1, ''} end
if not top[1] then return false end
return {top[1], top[2] or '', redis.call('PTTL', KEYS[1]), hash ~= '' and known(KEYS[1], top[3], hash) or ''}
""",
)

AT_ONCE: Final = 100
"""The largest number of sessions that one script reads.  It takes about a millisecond, and other clients wait."""

LOOKS: Final = _script(
    "",
    """
-- the answers of `LOOK` for sessions of one bucket
local seen = {}
for place, key in ipairs(KEYS) do seen[place] = seen_at(key) end
return seen
""",
)

NEWEST: Final = _script(
    # the score to begin at, the number of entries to read from each index, the number of entries to return, and the
    # part of the keys of sessions after the bucket
    "top some many sessions",
    f"""
-- the newest entries of the indexes of all buckets: one part for each index with entries.  A part has the number of the
-- index and its entries, and, if all entries are few and no more than requested, the answers of `LOOK` for their
-- sessions.  `least` is the time of the last requested entry among those found so far: older entries are not read
local begin, parts, times, least, total = tonumber(top) or math.huge, {{}}, {{}}, '-inf', 0
some, many = tonumber(some), tonumber(many)

local function read(place)
  local found = redis.call('ZREVRANGEBYSCORE', KEYS[place], top, least, 'WITHSCORES', 'LIMIT', 0, some)
  if #found == 0 then return end
  parts[#parts + 1], total = {{place - 1, found}}, total + #found / 2
  for i = 2, #found, 2 do
    local time = tonumber(found[i])
    -- the caller may omit entries with the time `begin`
    if time < begin then times[#times + 1] = time end
  end
  -- for a long page, sorting takes longer than reading all entries
  if many < #KEYS and #times >= 2 * many then
    table.sort(times)
    times = {{unpack(times, #times - many + 1)}}
    least = string.format('%.17g', times[1])
  end
end

-- most indexes of a small store do not exist: one command checks several of them, until a fourth of them exist
local function visit(from, to)
  local there = redis.call('EXISTS', unpack(KEYS, from, to))
  if there > (to - from) / 4 then
    for place = from, to do read(place) end
  elseif there > 0 then
    local middle = math.floor((from + to) / 2)
    visit(from, middle)
    visit(middle + 1, to)
  end
end
visit(1, #KEYS)

if total > math.min(many, {AT_ONCE}) then return parts end
for _, part in ipairs(parts) do
  local seen, found = {{}}, part[2]
  for i = 1, #found, 2 do
    local stop = string.find(found[i], '\\0', 1, true)
    local key = 'turnlog:{{' .. part[1] .. '}}' .. sessions .. (stop and string.sub(found[i], 1, stop - 1) or found[i])
    seen[#seen + 1] = seen_at(key)
  end
  part[3] = seen
end
return parts
""",
)

COMMIT: Final = _script(
    # the joined hashes of one or several changes, the header that the caller has seen, the next header, the number of
    # elements to keep, the turn before which to drop, the limit in bytes, the metadata, the backend's time to live, the
    # expiry in seconds since 1970 (0: restart the time to live; nothing: the expiry slides), the session id, the old
    # and the new owner, the prefixes of the keys of sessions and of indexes of owners, the namespace, and the name of
    # the writer; then the changes to remember, and the records
    "hash expected header keep drop limit metadata default expires session was owner sessions owners namespace writer",
    f"""
local key = KEYS[1]
local top = redis.call('LRANGE', key, 0, 2)
local seen, hashes = top[1] or '', top[3] or ''
local many = #hash / {HASH_BYTES}
for i = 1, many do
  local found = seen ~= '' and known(key, top[3], string.sub(hash, {HASH_BYTES} * (i - 1) + 1, {HASH_BYTES} * i))
  if found and i > 1 then return {{'apart'}} end
  if found then return {{'repeat', seen, redis.call('PTTL', key), found}} end
end
local line = line_of(key)
local first = redis.pcall('LINDEX', line, 0)
local another = type(first) == 'string' and first ~= '' and first ~= writer and writer ~= ''
if seen ~= expected or another then
  local place = stand(line, writer)
  if place > 0 then return {{'wait', place}} end
  if seen == '' then return {{'moved', '', 0, ''}} end
  return {{'moved', seen, redis.call('PTTL', key), top[2] or ''}}
end

local entries = more
more = more + many

-- drop the first turns, from the stored records and then from the records to append
local dropped, bytes = 0, number(header, {HEADER["bytes"]})
if drop ~= '' then
  local first, start = number(header, {HEADER["first"]}), number(header, {HEADER["start"]})
  local wanted, expected_turn, expected_start = tonumber(drop), first, start
  local stored = seen ~= '' and redis.call('LLEN', key) or 0
  if keep ~= '' then stored = tonumber(keep) end
  while true do
    local inside = {RECORDS} + dropped < stored
    local record = nil
    if inside then record = redis.call('LINDEX', key, {RECORDS} + dropped) else record = ARGV[more] end
    if not record then break end
    local at, turns = number(record, {RECORD["number"]}), number(record, {RECORD["turns"]})
    local ends = number(record, {RECORD["messages_until"]})
    local begins = ends - number(record, {RECORD["count"]})
    -- a damaged number must not drop a retained turn
    if begins ~= expected_start or at ~= expected_turn - (turns == 0 and 1 or 0) then error('{DAMAGED}') end
    expected_turn, expected_start = at + math.max(turns, 1), ends
    if expected_turn > wanted then
      first, start = at, begins
      break
    end
    bytes = bytes - number(record, {RECORD["size"]})
    if inside then dropped = dropped + 1 else more = more + 1 end
  end
  header = put(header, {HEADER["first"]}, first)
  header = put(header, {HEADER["start"]}, start)
  header = put(header, {HEADER["bytes"]}, bytes)
end
if limit ~= '' and bytes > tonumber(limit) and bytes > (seen ~= '' and number(seen, {HEADER["bytes"]}) or 0) then
  return {{'large', bytes}}
end

-- a header without a time: its turns change now
if number(header, {HEADER["updated"]}) == 0 then
  local time = redis.pcall('TIME')
  if time.err then return time end
  local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
  header = put(header, {HEADER["updated"]}, now)
  if seen == '' then header = put(header, {HEADER["created"]}, now) end
end
header = summed(header)

local count = number(header, {HEADER["changes"]}) - many
for i = 0, many - 1 do
  local place, at = (count + i) % {REMEMBERED_CHANGES} * 4, {HASH_BYTES} * i
  hashes = string.sub(hashes, 1, place) .. string.sub(hash, at + 1, at + 4) .. string.sub(hashes, place + 5)
end
-- the first write: if the server refuses it, for example to a user that may only read, nothing is stored
local updated = number(header, {HEADER["updated"]})
local listed = redis.pcall('ZADD', KEYS[2], updated, session .. '\\0' .. owner)
if type(listed) == 'table' then return listed end
if seen == '' then
  redis.call('ZADD', KEYS[5], 0, namespace)
  redis.call('RPUSH', key, header, metadata, hashes, unpack(ARGV, entries, entries + many - 1))
  local empty = {{}}
  for i = 1, {REMEMBERED_CHANGES} - many do empty[i] = '' end
  if many < {REMEMBERED_CHANGES} then redis.call('RPUSH', key, unpack(empty)) end
else
  if keep ~= '' then redis.call('LTRIM', key, 0, tonumber(keep) - 1) end
  if dropped > 0 then remove(key, {RECORDS}, dropped) end
  redis.call('LSET', key, 0, header)
  redis.call('LSET', key, 2, hashes)
  for i = 0, many - 1 do
    redis.call('LSET', key, {CHANGES} + (count + i) % {REMEMBERED_CHANGES}, ARGV[entries + i])
  end
  if metadata ~= '' then redis.call('LSET', key, 1, metadata) end
end
while more <= #ARGV do
  redis.call('RPUSH', key, unpack(ARGV, more, math.min(more + 999, #ARGV)))
  more = more + 1000
end
if first == writer and writer ~= '' then pass(line) end
local left
if (tonumber(expires) or 0) > 0 then
  local time = redis.call('TIME')
  left = math.floor(tonumber(expires) * 1000 - tonumber(time[1]) * 1000 - tonumber(time[2]) / 1000)
  redis.call('PEXPIRE', key, string.format('%.0f', left))  -- a large number would be sent with an exponent
  left = math.max(0, left)
else
  left = extend(key, header, default, expires == '0')
end

if owner ~= '' then redis.call('ZADD', KEYS[3], updated, session) end
if was ~= owner then
  redis.call('ZREM', KEYS[2], session .. '\\0' .. was)
  if was ~= '' then redis.call('ZREM', KEYS[4], session) end
end
-- Expired sessions leave entries in the index.  The first change of a session, and every eighth one, checks 16 entries,
-- so that at most about half of the entries belong to expired sessions.  While a slot moves, another session may be on
-- the other node.
if math.floor((count + 7) / 8) ~= math.floor((count + many + 7) / 8) then
  for _, other in ipairs(redis.call('ZRANDMEMBER', KEYS[2], 16)) do
    local stop = string.find(other, '\\0', 1, true)
    local name = string.sub(other, 1, stop - 1)
    if redis.pcall('EXISTS', sessions .. name) == 0 then
      redis.call('ZREM', KEYS[2], other)
      if stop < #other then redis.pcall('ZREM', owners .. string.sub(other, stop + 1), name) end
    end
  end
end
return {{'stored', header, left}}
""",
)

DELETE: Final = _script(
    "expected session owners",  # `expected`: the header that the caller has seen, or nothing
    f"""
local header = redis.pcall('LINDEX', KEYS[1], 0)
if not header then return 0 end
if expected ~= '' and header ~= expected then return 2 end
local deleted = redis.pcall('DEL', KEYS[1])
if type(deleted) == 'table' then return deleted end
local length = type(header) == 'string' and string.byte(header, {HEADER["owner"]})
if not length then return 1 end
local owner = string.sub(header, {HEADER.size + 1}, {HEADER.size} + length)
redis.call('ZREM', KEYS[2], session .. '\\0' .. owner)
if owner ~= '' then redis.pcall('ZREM', owners .. owner, session) end
unlist(KEYS[2])
return 1
""",
)

AROUND: Final = _script(
    "turn",
    f"""
-- the header, the index and the bytes of the records from a turn on, and the record before them
local key = KEYS[1]
local place = search(key, {RECORD["number"]}, tonumber(turn))
local bytes = 0
for _, record in ipairs(redis.call('LRANGE', key, place, -1)) do
  bytes = bytes + number(record, {RECORD["size"]})
end
return {{
  redis.call('LINDEX', key, 0) or '', place, bytes, place > {RECORDS} and redis.call('LINDEX', key, place - 1) or ''
}}
""",
)

SEAL: Final = _script(
    "first last many sealed turn",  # the first and the last record without payloads, and the number of the first
    f"""
local key = KEYS[1]
local header = redis.call('LINDEX', key, 0)
if not header then return 0 end
local place = search(key, {RECORD["number"]}, tonumber(turn))
many = tonumber(many)
local run = redis.call('LRANGE', key, place, place + many - 1)
if run[1] == sealed then return 1 end  -- this is a repeat: the first answer was lost
if #run < many then return 0 end
if string.sub(run[1], 1, #first) ~= first or string.sub(run[many], 1, #last) ~= last then return 0 end
local bytes = number(header, {HEADER["bytes"]}) + number(sealed, {RECORD["size"]})
for i = 1, many do bytes = bytes - number(run[i], {RECORD["size"]}) end
header = put(header, {HEADER["bytes"]}, bytes)
-- the index of the next change stays the same, and the header differs for writers that have seen the old one
header = put(header, {HEADER["changes"]}, number(header, {HEADER["changes"]}) + {REMEMBERED_CHANGES})
redis.call('LSET', key, 0, summed(header))
redis.call('LSET', key, place, sealed)
remove(key, place + 1, many - 1)
return 1
""",
)

COUNT: Final = _script(
    # the prefix of the keys of sessions, the score to begin at, the number of entries with this score to skip, the
    # number of entries to count, and N: the memory of every Nth session is measured
    "sessions top skip many every",
    f"""
local call, find, sub, unpack = redis.pcall, string.find, string.sub, struct.unpack
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], top, '-inf', 'WITHSCORES', 'LIMIT', skip, many)
local count, messages, bytes, sampled, memory, index = 0, 0, 0, 0, 0, 0
for i = 1, #found, 2 do
  local stop = find(found[i], '\\0', 1, true)
  local key = stop and sessions .. sub(found[i], 1, stop - 1)
  -- a key that cannot be read, or that is on another node while a slot moves, must not hide the others
  local header = stop and call('LINDEX', key, 0)
  if type(header) == 'string' and #header >= {HEADER.size} then
    local updated, _, start, size, ends = unpack('>ddddd', header, {HEADER["updated"]})
    local sound = start >= 0 and start <= ends and ends <= {MAX_NUMBER} and math.abs(size) <= {MAX_NUMBER}
    -- an expired session leaves an entry, even if another owner has created a session with the same id
    if sound and updated == tonumber(found[i + 1]) then
      if count % every == 0 then
        local used = call('MEMORY', 'USAGE', key)
        if type(used) == 'number' then sampled, memory = sampled + 1, memory + used end
      end
      count, messages, bytes = count + 1, messages + ends - start, bytes + size
    end
  end
end
if top == '+inf' then
  local used = redis.pcall('MEMORY', 'USAGE', KEYS[1])
  if type(used) == 'number' then index = used end
end
local last, ties = found[#found] or '', 0
for i = #found, 2, -2 do
  if found[i] ~= last then break end
  ties = ties + 1
end
if last == top then ties = ties + skip end
return {{count, messages, bytes, sampled, memory, index, #found / 2, last, ties}}
""",
)
"""Counts the sessions in a part of a bucket's index."""

STAND: Final = _script("writer", "return stand(line_of(KEYS[1]), writer)")
"""Returns the writer's place in a session's queue; at 0, no other writer changes the session before its commit."""

PASS: Final = _script(
    "writer",
    """
local line = line_of(KEYS[1])
if writer ~= '' and redis.pcall('LINDEX', line, 0) == writer then pass(line) end
""",
)
MOVED: Final = 2
"""The answer of `FORGET` if the entry was corrected."""

FORGET: Final = _script(
    # the entry, the session id in it, the owner of the index or nothing, and the prefix of the keys of indexes of
    # owners
    "member session whose owners",
    f"""
-- remove an entry of an index, unless it has the time of the session: then another caller has added it again
local header, score = redis.call('LINDEX', KEYS[1], 0), redis.call('ZSCORE', KEYS[2], member)
if not score then return 0 end
if header then
  local updated = number(header, {HEADER["updated"]})
  if updated == tonumber(score) then return 0 end
  local owner = owner_in(header)
  -- each commit writes the time of the entry, so an entry in the right index with a wrong time is damaged
  if (whose == '' and member == session .. '\\0' .. owner) or (whose ~= '' and whose == owner) then
    redis.call('ZADD', KEYS[2], updated, member)
    return {MOVED}
  end
end
-- a replica, or a user without the permission, keeps the entry
if type(redis.pcall('ZREM', KEYS[2], member)) == 'table' then return 0 end
-- also remove the entry from the other index: without this entry, nothing leads to it
local other = whose ~= '' and whose or string.sub(member, #session + 2)
if not (header and owner_in(header) == other) then
  redis.call('ZREM', KEYS[3], session .. '\\0' .. other)
  if other ~= '' then redis.pcall('ZREM', owners .. other, session) end
end
unlist(KEYS[3])
return 1
""",
)

SWEEP: Final = _script(
    "sessions owners cursor many",  # the prefixes of the keys of sessions and of indexes of owners
    """
-- remove the entries of expired sessions, even if another owner has created a session with the same id; return the
-- cursor of the next part.  While a slot moves, a session may be on another node: its entry stays
local found, count = redis.call('ZSCAN', KEYS[1], cursor, 'COUNT', many), 0
for i = 1, #found[2], 2 do
  local member = found[2][i]
  local stop = string.find(member, '\\0', 1, true)
  if stop then
    local session, owner = string.sub(member, 1, stop - 1), string.sub(member, stop + 1)
    local header = redis.pcall('LINDEX', sessions .. session, 0)
    local gone = not header
    if type(header) == 'string' and owner_in(header) ~= owner then
      gone = redis.call('ZSCORE', KEYS[1], session .. '\\0' .. owner_in(header))  -- otherwise the header is damaged
    end
    if gone then
      count = count + redis.call('ZREM', KEYS[1], member)
      if owner ~= '' then redis.pcall('ZREM', owners .. owner, session) end
    end
  end
end
if count > 0 then unlist(KEYS[1]) end
return {found[1], count}
""",
)
"""Removes the entries of expired sessions from a part of a bucket's index of a namespace, and from those of owners."""

NAMESPACES: Final = _script(
    "after limit index",  # the prefix of the keys of indexes of namespaces
    """
-- the next namespaces of a bucket; a namespace without an index is removed: its index is empty or was evicted
local found, start = {}, after == '' and '-' or '(' .. after
while #found < tonumber(limit) do
  local names = redis.call('ZRANGEBYLEX', KEYS[1], start, '+', 'LIMIT', 0, limit - #found)
  if #names == 0 then break end
  for _, name in ipairs(names) do
    if redis.pcall('EXISTS', index .. name) == 0 then
      redis.pcall('ZREM', KEYS[1], name)
    else
      found[#found + 1] = name
    end
  end
  start = '(' .. names[#names]
end
return found
""",
)

_CHANGES: Final = {
    "DEL": "",
    "LREM": "1 x",
    "LSET": "0 x",
    "LTRIM": "0 0",
    "RPUSH": "x",
    "ZADD": "0 x",
    "ZREM": "x",
}
"""The commands of the scripts that change sessions and lists, each with its arguments after the key."""

_WITH_CHANGES: Final = _CHANGES | {
    "EXISTS": "",
    "LINDEX": "0",
    "LLEN": "",
    "LPOS": "x",
    "LRANGE": "0 0",
    "PERSIST": "",
    "PEXPIRE": "1",
    "PTTL": "",
    "TIME": "",
    "ZRANDMEMBER": "1",
    "ZRANGEBYLEX": "- +",
    "ZREVRANGEBYSCORE": "1 0",
    "ZSCAN": "0",
    "ZSCORE": "x",
}
"""All commands that the scripts need; `MEMORY USAGE` is not one of them, because the answer is optional."""

RIGHTS: Final = _script(
    "nothing",
    f"""
-- the commands above that this user may not call
local denied = {{}}
for _, words in ipairs({{{", ".join(f"'{name} {words}'" for name, words in _WITH_CHANGES.items())}}}) do
  local command = {{}}
  for word in string.gmatch(words, '%S+') do command[#command + 1] = word end
  if command[1] ~= 'TIME' then table.insert(command, 2, KEYS[1]) end
  -- a command that the server's configuration has renamed raises an error
  local exists, may = pcall(redis.acl_check_cmd, unpack(command))
  if not (exists and may) then denied[#denied + 1] = command[1] end
end
return denied
""",
)


def denied_amid_changes(denied: Iterable[bytes]) -> list[str]:
    """Return the commands that a user lacks, if a script would write before the server refuses one of them.

    A user that may call none of the commands that change data can only read, and its first write is refused as a whole.

    Args:
        denied: The answer of `RIGHTS`.
    """
    names = {name.decode() for name in denied}
    return [] if names.issuperset(_CHANGES) else sorted(map(str.lower, names))
