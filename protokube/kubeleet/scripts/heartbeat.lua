-- A worker says that it lives, and hears what belongs on it.
-- KEYS: ep hb ld cs rq   ARGV: epoch, load   → {'OK', cs, rq} | {'FENCED'} | {'EMPTIED'}
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'EMPTIED'} end
if epoch ~= ARGV[1] then return {'FENCED'} end
redis.call('SET', KEYS[2], redis.call('TIME')[1])
redis.call('SET', KEYS[3], ARGV[2])
return {'OK', redis.call('SMEMBERS', KEYS[4]), redis.call('LRANGE', KEYS[5], 0, -1)}
