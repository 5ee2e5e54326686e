-- A pod's container exists: the pod belongs on this worker now. One that was removed meanwhile isn't brought back.
-- KEYS: ep gen cs rq at   ARGV: epoch, the highest generation that the worker has seen, pod, its field of attempts
-- → {'OK', generation} | {'GONE'} | {'FENCED'} | {'EMPTIED'} | {'BACK'}
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'EMPTIED'} end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then return {'BACK'} end
if epoch ~= ARGV[1] then return {'FENCED'} end
if redis.call('LREM', KEYS[4], 1, ARGV[3]) == 0 and redis.call('SISMEMBER', KEYS[3], ARGV[3]) == 0 then
  return {'GONE'}
end
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[5], ARGV[4])
return {'OK', redis.call('INCR', KEYS[2])}
