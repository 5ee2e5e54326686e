-- Drops a pod from one place while it stands at another.
-- KEYS: the place that stays, the place that goes   ARGV: pod   → 1 where it was dropped
local kind = redis.call('TYPE', KEYS[1])['ok']
local kept = false
if kind == 'set' then kept = redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 end
if kind == 'list' then kept = redis.call('LPOS', KEYS[1], ARGV[1]) ~= false end
if not kept then return 0 end
kind = redis.call('TYPE', KEYS[2])['ok']
if kind == 'set' then return redis.call('SREM', KEYS[2], ARGV[1]) end
if kind == 'list' then return redis.call('LREM', KEYS[2], 0, ARGV[1]) end
return 0
