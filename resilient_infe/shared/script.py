"""The Lua script that hands out shares, and how it is asked.

One call tells Redis what a process wants of each limit, and returns its share of each. Redis runs a
script alone, so there is no race. The rules:

1. *A share is free only once its holder said so.* What is recorded of a member is never below what
   it uses: a larger share is recorded before the member learns of it, a smaller one only when the
   member reports that it uses no more. So the shares of all live members never add up to more
   than 1.
2. *Shares follow the need.* A need is what a member could send per second now, as a part of the
   limit. If the needs fit, a member gets twice its own, and the rest stays free for the next one
   that asks. If they do not, the limit is divided in proportion to them.
3. *Classes go first to last*: interactive, normal, batch. Each lower class that has a need keeps a
   tenth, as in the queue of one process.
4. *Members that are silent for longer than their lease are dropped*, a few in each call. The script
   needs only the sums over all members, so its cost does not grow with their number.
5. *A store without memory hands out little.* It may have been restarted, while members hold shares
   of which it knows nothing yet. For 3 s it gives those that come back what they hold, up to 1 in
   all, and newcomers a quarter of what is free: what they need shows only later. With their next
   calls they get up to half of what is free, unless one has come back by then.

All numbers are whole, so that sums are exact: needs in millionths and shares in billionths of the
limit. Time is that of the server, in milliseconds. All keys share one hash tag, so that a cluster
keeps them in one slot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NEEDS = 1_000_000
"""Parts of a limit in which a need is told."""

MOST_NEED = 10_000.0
"""The largest need that is told, in limits. The sum over ten thousand members stays exact."""

SHARES = 1_000_000_000
"""Parts of a limit in which a share is told."""

FIELDS = 9
"""Numbers of a request for each limit: the share in use, the need of each class, what was spent of
a day in requests and in tokens, whether a day is limited, for how long a gate is shut, and which of
the member's own limits of this name it is."""

ANSWERED = 5
"""Numbers of a reply for each limit: the share, the members, for how long a gate is shut, and what
all of them spent in 24 hours."""

KEYS = 3
"""Keys of each limit."""

SCRIPT = """
local WHOLE, TRICKLE, HEADROOM, SETTLES, KEPT, HOUR = 1000000000, 0.1, 2, 3000, 900000, 3600000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])

local function text(number) return string.format('%.0f', number) end

local function add(key, field, number)
  if number ~= 0 then redis.call('HINCRBY', key, field, text(number)) end
end

local function count(key, sign, needs, share)
  for class = 1, 3 do add(key, 'need' .. class, sign * needs[class]) end
  add(key, 'share', sign * share)
end

local function drop(key, member)
  local held = redis.call('HGET', key, 'm:' .. member)
  if not held then return false end
  local first, second, third, share = string.match(held, '(%d+) (%d+) (%d+) (%d+)')
  count(key, -1, {tonumber(first), tonumber(second), tonumber(third)}, tonumber(share))
  redis.call('HDEL', key, 'm:' .. member)
  return true
end

-- What a member may have by its needs, if the needs of all come to `sums`.
local function fair(needs, sums)
  local left, share = WHOLE, 0
  for class = 1, 3 do
    local kept = 0
    for lower = class + 1, 3 do kept = kept + math.min(sums[lower] * 1000, TRICKLE * WHOLE) end
    local used = math.min(sums[class] * 1000 * HEADROOM, math.max(0, left - kept))
    if sums[class] > 0 then share = share + used * (needs[class] / sums[class]) end
    left = left - used
  end
  return math.floor(math.min(share, WHOLE))
end

-- What all members spent of a day, with what this one spent since it said so last.
local function day(key, requests, tokens)
  local hour, fields = math.floor(now / HOUR), {}
  redis.call('HINCRBYFLOAT', key, 'r' .. hour, requests)
  redis.call('HINCRBYFLOAT', key, 't' .. hour, tokens)
  redis.call('HDEL', key, 'r' .. hour - 25, 't' .. hour - 25)
  redis.call('PEXPIRE', key, 26 * HOUR)
  for back = 0, 24 do
    fields[#fields + 1] = 'r' .. hour - back
    fields[#fields + 1] = 't' .. hour - back
  end
  local sums = {0, 0}
  for at, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
    sums[2 - at % 2] = sums[2 - at % 2] + tonumber(value or 0)
  end
  return sums
end

local answer = {}
for at = 1, #KEYS, 3 do
  local key, leases, base = KEYS[at], KEYS[at + 1], 2 + (at - 1) / 3 * 9
  local told = {}
  for field = 1, 8 do told[field] = tonumber(ARGV[base + field]) end
  local held, needs, shut = told[1], {told[2], told[3], told[4]}, told[8]
  local me = ARGV[1] .. ':' .. ARGV[base + 9]
  local is_known = drop(key, me)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 8)) do
    drop(key, gone)
    redis.call('ZREM', leases, gone)
  end
  local known = redis.call('HMGET', key, 'need1', 'need2', 'need3', 'share', 'born', 'gate', 'lost')
  local born, free = tonumber(known[5] or now), math.max(0, WHOLE - tonumber(known[4] or 0))
  local sums = {}
  for class = 1, 3 do sums[class] = tonumber(known[class] or 0) + needs[class] end
  local want, keeps = fair(needs, sums), math.min(held, free)
  if now - born < SETTLES then
    if held > 0 and not is_known then redis.call('HSET', key, 'lost', '1'); known[7] = '1' end
    if held > 0 then
      want = math.min(want, known[7] and keeps or math.max(keeps, math.floor(free / 2)))
    elseif want > 0 then
      want = math.floor(free / 4)
    end
  end
  local share = math.min(math.max(want, keeps), free)
  local gate = math.max(tonumber(known[6] or 0), shut > 0 and now + shut or 0)
  if lease > 0 then
    local record = string.format('%.0f %.0f %.0f %.0f', needs[1], needs[2], needs[3], share)
    redis.call('HSET', key, 'born', text(born), 'gate', text(gate), 'm:' .. me, record)
    count(key, 1, needs, share)
    redis.call('ZADD', leases, now + lease, me)
    redis.call('PEXPIRE', key, KEPT)
    redis.call('PEXPIRE', leases, KEPT)
  else
    redis.call('ZREM', leases, me)
  end
  local spent = told[7] > 0 and day(KEYS[at + 2], ARGV[base + 5], ARGV[base + 6]) or {0, 0}
  for _, value in ipairs({math.min(want, share), redis.call('ZCARD', leases),
      math.max(0, gate - now), spent[1], spent[2]}) do
    answer[#answer + 1] = text(value)
  end
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a member says of one limit.

    Attributes:
        held: the share that it uses, from 0 to 1.
        needs: what it could send now by class, as parts of the limit.
        requests, tokens: what it spent since it said so last, if a day is limited.
        a_day: whether a day is limited.
        gate: the seconds for which a gate that concerns all is shut; 0 if it is open.
    copy: tells limits of the same name in one process apart.
    """

    held: float
    needs: tuple[float, float, float]
    requests: float = 0.0
    tokens: float = 0.0
    a_day: bool = False
    gate: float = 0.0
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says of one limit.

    Attributes:
        share: what this member may use, from 0 to 1.
        members: how many use the limit.
        gate: the seconds for which a gate is shut for all; 0 if it is open.
        requests, tokens: what all members spent in the last 24 hours, if a day is limited.
    """

    share: float
    members: int
    gate: float
    requests: float
    tokens: float


def keys(name: str, limits: Iterable[str]) -> list[str]:
    """Return the keys of these limits."""
    return [f"{{{name}}}:{limit}{part}" for limit in limits for part in ("", ":leases", ":day")]


def arguments(member: str, lease: float, asked: Iterable[Asked]) -> list[str]:
    """Return what the script is told.

    Args:
        member: the name of the member.
        lease: the seconds for which its shares are its own if it is not heard of; 0 to leave.
        asked: what it says of each limit.
    """
    told = [member, f"{lease * 1_000:.0f}"]
    for each in asked:
        needs = (f"{min(MOST_NEED, max(0.0, need)) * NEEDS:.0f}" for need in each.needs)
        told += [f"{each.held * SHARES:.0f}", *needs, f"{each.requests:.3f}", f"{each.tokens:.3f}"]
        told += [str(int(each.a_day)), f"{each.gate * 1_000:.0f}", str(each.copy)]
    return told


def answers(reply: Sequence[str | bytes]) -> list[Answer]:
    """Return what the script has answered of each limit.

    Raises:
        ValueError: it is no answer of the script.
    """
    numbers = [float(each) for each in reply]
    if len(numbers) % ANSWERED or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{len(numbers)} numbers are no answer")
    return [
        Answer(min(1.0, max(0.0, share / SHARES)), int(members), gate / 1_000, requests, tokens)
        for share, members, gate, requests, tokens in zip(*[iter(numbers)] * ANSWERED, strict=True)
    ]
