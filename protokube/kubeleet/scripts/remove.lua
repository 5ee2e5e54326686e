-- Removes a service: its request, and its pods wherever they stand. Workers stop them at their next heartbeat.
-- KEYS: svc sq dl workers schedulers   ARGV: prefix, uuid, its pods and dead letters …   → entries removed
local gone, removed, p = {}, 0, ARGV[1]
for i = 3, #ARGV do gone[ARGV[i]] = true end
local function clear(key)
  for _, one in ipairs(redis.call('LRANGE', key, 0, -1)) do
    if gone[one] then removed = removed + redis.call('LREM', key, 0, one) end
  end
end
redis.call('HDEL', KEYS[1], ARGV[2])
clear(KEYS[2])
clear(KEYS[3])
for _, s in ipairs(redis.call('SMEMBERS', KEYS[5])) do clear(p .. 'srq:' .. s) end
for _, w in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  clear(p .. 'pq:' .. w)
  clear(p .. 'rq:' .. w)
  for _, one in ipairs(redis.call('SMEMBERS', p .. 'cs:' .. w)) do
    if gone[one] then removed = removed + redis.call('SREM', p .. 'cs:' .. w, one) end
  end
end
return removed
