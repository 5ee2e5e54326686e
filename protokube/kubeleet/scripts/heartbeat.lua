-- A worker says that it lives, and hears what belongs on it.
-- KEYS: ep hb ld cs rq gen   ARGV: epoch, the highest generation that it has seen, load
-- → {'OK', generation, cs, rq} | {'FENCED'} | {'EMPTIED'} | {'BACK'}
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'EMPTIED'} end
if tonumber(redis.call('GET', KEYS[6]) or 0) < tonumber(ARGV[2]) then return {'BACK'} end
if epoch ~= ARGV[1] then return {'FENCED'} end
redis.call('SET', KEYS[2], redis.call('TIME')[1])
redis.call('SET', KEYS[3], ARGV[3])
local generation = redis.call('INCR', KEYS[6])
return {'OK', generation, redis.call('SMEMBERS', KEYS[4]), redis.call('LRANGE', KEYS[5], 0, -1)}
