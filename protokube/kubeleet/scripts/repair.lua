-- Queues pods that services want and that stand nowhere; looks everywhere again before it does.
-- KEYS: svc sq workers schedulers   ARGV: prefix, uuid, pod, uuid, pod …   → pods queued
local p, there, queued = ARGV[1], {}, 0
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
for i = 2, #ARGV, 2 do
  if not there[ARGV[i + 1]] and redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('LPUSH', KEYS[2], ARGV[i + 1])
    queued = queued + 1
  end
end
return queued
