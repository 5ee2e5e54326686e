-- A worker begins a new epoch, which fences its former self. Where no epoch is left, Redis never knew it, or lost
-- everything; a generation below the one that the worker has seen says that Redis went back to an earlier state. Then
-- what the worker has belongs there, and what it starts it starts.
-- KEYS: ep hb workers cs rq gen   ARGV: worker, its generation, how many pods belong there, those pods …,
-- the pods that it starts …   → {epoch, 1 where nothing was left, 2 where Redis went back, else 0, generation}
local generation = tonumber(redis.call('GET', KEYS[6]) or 0)
local lost = 0
if redis.call('EXISTS', KEYS[1]) == 0 then lost = 1 elseif generation < tonumber(ARGV[2]) then lost = 2 end
local epoch = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[2], redis.call('TIME')[1])
redis.call('SADD', KEYS[3], ARGV[1])
if lost == 0 then return {epoch, 0, generation} end
redis.call('SET', KEYS[6], math.max(generation, tonumber(ARGV[2])))
local last = 3 + tonumber(ARGV[3])
for i = 4, last do redis.call('SADD', KEYS[4], ARGV[i]) end
for i = last + 1, #ARGV do
  if not redis.call('LPOS', KEYS[5], ARGV[i]) then redis.call('LPUSH', KEYS[5], ARGV[i]) end
end
return {epoch, lost, redis.call('INCR', KEYS[6])}
