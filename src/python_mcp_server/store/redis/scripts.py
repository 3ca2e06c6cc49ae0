"""The Lua scripts: each is one transition of the store, which the server does whole or not at all.

What a store has, each name behind the prefix of the store:

    job:<id>                 a hash: `write` and `created`, random names of the last and the first write;
                             `status`, `principal`, `ended`, `list`, `rank`, by which the job is in the sets
                             below; `host`, the machine that started it last; `record`, the JSON
    ids:<state>:<principal>  sorted sets of ids, in the order of time: all, those of each state, those that
                             are `live` or have `ended`; of all principals, and of each
    ended:<state>            ids by the time of their end
    queue:<list>, queues     the index: `<rank>.<id>` in the order of ranks, and the names of the lists
    events                   a stream
    lock:<name>              who holds a lock, until its lease ends
    user                     the machine and the home whose processes write here, until its lease ends
    format                   the version of all this

A script that writes gets the terms under which it may: who writes, and the locks that it was made under. It
refuses where another machine uses the store, or a lock is no longer held. The former place of a job is read
from its hash, so that no write leaves a job in a set where it does not belong. A script whose answer is lost
is run again: it then finds its own `write`.
"""

from __future__ import annotations

from typing import Final

_COMMON: Final = """
local P = KEYS[1]
local next_argument = 0
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end
"""

_TERMS: Final = (
    _COMMON
    + """
-- Returns who else uses this store, or nil; with `claim` it is in use by the caller from now on.
local function used_by_another(claim)
  local boot, machine, home, host, lease_ms = argument(), argument(), argument(), argument(), argument()
  local found = redis.call('HMGET', P .. 'user', 'boot', 'machine', 'home', 'host')
  if found[1] then
    local same_machine = found[1] == boot or (machine ~= '' and found[2] == machine)
    if not same_machine then return 'the machine ' .. found[4] end
    if found[3] ~= home then return 'the home ' .. found[3] end
  end
  if not claim then return end
  redis.call('HSET', P .. 'user', 'boot', boot, 'machine', machine, 'home', home, 'host', host)
  redis.call('PEXPIRE', P .. 'user', lease_ms)
end

-- Returns the name of a lock that the caller thinks it holds, and does not.
local function lost_lock()
  local lost
  for _ = 1, tonumber(argument()) do
    local name, token = argument(), argument()
    if redis.call('GET', P .. 'lock:' .. name) ~= token then lost = name end
  end
  return lost
end

local function refusal()
  local user, lock = used_by_another(true), lost_lock()
  if user then return {'used', user} end
  if lock then return {'lost', lock} end
end

local function sets(status, principal, ended)
  local found = {}
  for _, state in ipairs({'', status, (ended ~= '' and 'ended') or 'live'}) do
    found[#found + 1] = P .. 'ids:' .. state .. ':'
    if principal ~= '' then found[#found + 1] = P .. 'ids:' .. state .. ':' .. principal end
  end
  return found
end

-- Takes a job out of all sets: `was` has its status, principal, end, list and rank.
local function unlist(id, was)
  for _, set in ipairs(sets(was[1], was[2], was[3])) do redis.call('ZREM', set, id) end
  if was[3] ~= '' then redis.call('ZREM', P .. 'ended:' .. was[1], id) end
  if was[4] ~= '' then
    redis.call('ZREM', P .. 'queue:' .. was[4], was[5] .. '.' .. id)
    if redis.call('EXISTS', P .. 'queue:' .. was[4]) == 0 then redis.call('ZREM', P .. 'queues', was[4]) end
  end
end

local function enlist(id, is)
  for _, set in ipairs(sets(is[1], is[2], is[3])) do redis.call('ZADD', set, 0, id) end
  if is[3] ~= '' then redis.call('ZADD', P .. 'ended:' .. is[1], is[3], id) end
  if is[4] ~= '' then
    redis.call('ZADD', P .. 'queue:' .. is[4], 0, is[5] .. '.' .. id)
    redis.call('ZADD', P .. 'queues', 0, is[4])
  end
end
"""
)

OPEN: Final = (
    _TERMS
    + """
local user, format = used_by_another(false), argument()
redis.call('SETNX', P .. 'format', format)
local found = redis.call('GET', P .. 'format')
if tonumber(found) > tonumber(format) then return {'newer', found} end
if user then return {'used', user} end
return {'done'}
"""
)
"""Terms, with no locks; the format. Makes the store, or refuses it."""

WRITE: Final = (
    _TERMS
    + """
local refused = refusal()
local id, expected, write, release = argument(), argument(), argument(), argument()
local key = P .. 'job:' .. id
local found = redis.call('HMGET', key, 'write', 'status', 'principal', 'ended', 'list', 'rank', 'created')
if found[1] == write or found[7] == write then return {'done'} end
if refused then return refused end
if not found[1] and expected ~= '' then return {'gone'} end
if found[1] and found[1] ~= expected then return {'there'} end
if found[1] then unlist(id, {found[2], found[3], found[4], found[5], found[6]}) end
local is = {argument(), argument(), argument(), argument(), argument()}
enlist(id, is)
redis.call('HSET', key, 'write', write, 'status', is[1], 'principal', is[2], 'ended', is[3],
  'list', is[4], 'rank', is[5], 'record', argument())
local host, event, most_events = argument(), argument(), argument()
if not found[1] then redis.call('HSET', key, 'created', write) end
if host ~= '' then redis.call('HSET', key, 'host', host) end
if event ~= '' then redis.call('XADD', P .. 'events', 'MAXLEN', '~', most_events, '*', 'event', event) end
if release ~= '' then redis.call('DEL', P .. 'lock:' .. release) end
return {'done'}
"""
)
"""Terms; the id, the write that is replaced or nothing, the new write, a lock to release or nothing; status,
principal, end, list, rank; the record; the host, an event, how many events are kept.
"""

REMOVE: Final = (
    _TERMS
    + """
local refused = refusal()
if refused then return refused end
local wanted_write, removed = argument(), {'done'}
while ARGV[next_argument + 1] do
  local id = argument()
  local key = P .. 'job:' .. id
  local found = redis.call('HMGET', key, 'status', 'principal', 'ended', 'list', 'rank', 'write')
  local fits = found[3] ~= ''
  if wanted_write ~= '' then fits = found[6] == wanted_write end
  if found[1] and fits then
    unlist(id, found)
    redis.call('DEL', key)
    removed[#removed + 1] = id
  end
end
return removed
"""
)
"""Terms; a write or nothing; ids. Removes the jobs that have ended, or the one with this very write."""

TAKE: Final = (
    _COMMON
    + """
local id, name, token, lease_ms = argument(), argument(), argument(), argument()
local found = redis.call('HMGET', P .. 'job:' .. id, 'write', 'status', 'record', 'host', 'ended')
if not found[1] then return {'free'} end
local answer = {'free', found[1], found[2], found[3], found[4] or ''}
if found[5] ~= '' then return answer end
local holder = redis.call('GET', P .. 'lock:' .. name)
if holder and holder ~= token then return {'held', holder} end
redis.call('SET', P .. 'lock:' .. name, token, 'PX', lease_ms)
answer[1] = 'taken'
return answer
"""
)
"""The id, the name of its lock, a token, the lease. Returns the job, with its lock taken if it is live."""

LOCK: Final = (
    _COMMON
    + """
local name, token, lease_ms = argument(), argument(), argument()
local holder = redis.call('GET', P .. 'lock:' .. name)
if holder and holder ~= token then return {'held', holder} end
redis.call('SET', P .. 'lock:' .. name, token, 'PX', lease_ms)
return {'taken'}
"""
)
"""The name of a lock, a token, the lease."""

RENEW: Final = (
    _COMMON
    + """
local lease_ms, kept = argument(), 0
while ARGV[next_argument + 1] do
  local name, token = argument(), argument()
  if redis.call('GET', P .. 'lock:' .. name) == token then
    redis.call('PEXPIRE', P .. 'lock:' .. name, lease_ms)
    kept = kept + 1
  end
end
return kept
"""
)
"""The lease; names of locks, each with its token. A lock that is another's now stays as it is."""

RELEASE: Final = (
    _COMMON
    + """
local name, token = argument(), argument()
if redis.call('GET', P .. 'lock:' .. name) ~= token then return 0 end
return redis.call('DEL', P .. 'lock:' .. name)
"""
)
"""The name of a lock and its token."""

READ: Final = (
    _COMMON
    + """
local function read(ids)
  local rows = {}
  for _, id in ipairs(ids) do
    local found = redis.call('HMGET', P .. 'job:' .. id, 'write', 'status', 'record', 'host')
    if found[1] then rows[#rows + 1] = {id, found[1], found[2], found[3], found[4] or ''} end
  end
  return rows
end
"""
)

ROWS: Final = READ + "return read(ARGV)"
"""Ids. Returns the id, write, status, record and host of each job that is there."""

PAGE: Final = (
    READ
    + """
local order, set, first, last, limit = argument(), P .. argument(), argument(), argument(), argument()
return read(redis.call(order, set, first, last, 'LIMIT', 0, limit))
"""
)
"""ZRANGEBYLEX or ZREVRANGEBYLEX, a set of ids, the first and the last place of a page, its length."""

QUEUE: Final = (
    READ
    + """
local list, last, limit, ids = argument(), argument(), argument(), {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', P .. 'queue:' .. list, '-', last, 'LIMIT', 0, limit)) do
  ids[#ids + 1] = string.match(member, '[^.]*$')
end
return read(ids)
"""
)
"""A list of the index, the last place, and how many jobs."""
