-- A pod's container exists: the pod belongs on this worker now. One that was removed meanwhile isn't brought back.
-- KEYS: ep cs rq at   ARGV: epoch, pod, its field of attempts   → 'OK' | 'GONE' | 'FENCED' | 'EMPTIED'
local epoch = redis.call('GET', KEYS[1])
if not epoch then return 'EMPTIED' end
if epoch ~= ARGV[1] then return 'FENCED' end
if redis.call('LREM', KEYS[3], 1, ARGV[2]) == 0 and redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 0 then
  return 'GONE'
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[3])
return 'OK'
