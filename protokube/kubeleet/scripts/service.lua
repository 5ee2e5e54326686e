-- Takes a service in: its request and all of its pods, or nothing. The same request again is written again, and its
-- pods aren't: so WAIT waits for it.
-- KEYS: svc sq   ARGV: uuid, request, pods …   → {1 where it is new, the request that holds}
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held ~= ARGV[2] then return {0, held} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if held then return {0, held} end
for i = 3, #ARGV do redis.call('LPUSH', KEYS[2], ARGV[i]) end
return {1, ARGV[2]}
