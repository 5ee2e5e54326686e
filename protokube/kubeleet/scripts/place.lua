-- Places pods. Each leaves the scheduler's queue in the same moment: a second try, or another scheduler, finds it gone.
-- KEYS: srq   ARGV: prefix, seconds after which a heartbeat is stale, pod, worker, pod, worker …
-- → for each 'PLACED' | 'STALE' (the worker is silent) | 'GONE'
local now, answers = tonumber(redis.call('TIME')[1]), {}
for i = 3, #ARGV, 2 do
  local pod, w = ARGV[i], ARGV[i + 1]
  local beat = redis.call('GET', ARGV[1] .. 'hb:' .. w)
  local answer = 'PLACED'
  if not beat or now - beat > tonumber(ARGV[2]) then
    answer = 'STALE'
  elseif redis.call('LREM', KEYS[1], 1, pod) == 0 then
    answer = 'GONE'
  else
    redis.call('LPUSH', ARGV[1] .. 'pq:' .. w, pod)
  end
  answers[#answers + 1] = answer
end
return answers
