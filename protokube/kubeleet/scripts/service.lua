-- Takes a service in: its request and all of its pods, or nothing. A pod that stands somewhere already isn't queued:
-- Redis may have lost the service and got its pods back from the workers. The same request again is written again, and
-- its pods aren't queued: so WAIT waits for it. REPAIR queues those pods of a service that stand nowhere.
-- KEYS: svc sq workers schedulers   ARGV: prefix, uuid, request, 'NEW' | 'REPAIR', pods …
-- → {1 where the service is new, the request that holds, pods queued}
local p, repairs = ARGV[1], ARGV[4] == 'REPAIR'
local held = redis.call('HGET', KEYS[1], ARGV[2])
if held and held ~= ARGV[3] or repairs and not held then return {0, held or '', 0} end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if held and not repairs then return {0, held, 0} end
local there, queued = {}, 0
local function mark(pods)
  for _, pod in ipairs(pods) do there[pod] = true end
end
mark(redis.call('LRANGE', KEYS[2], 0, -1))
for _, s in ipairs(redis.call('SMEMBERS', KEYS[4])) do mark(redis.call('LRANGE', p .. 'srq:' .. s, 0, -1)) end
for _, w in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  mark(redis.call('LRANGE', p .. 'pq:' .. w, 0, -1))
  mark(redis.call('LRANGE', p .. 'rq:' .. w, 0, -1))
  mark(redis.call('SMEMBERS', p .. 'cs:' .. w))
end
for i = 5, #ARGV do
  if not there[ARGV[i]] then
    redis.call('LPUSH', KEYS[2], ARGV[i])
    queued = queued + 1
  end
end
return {held and 0 or 1, ARGV[3], queued}
