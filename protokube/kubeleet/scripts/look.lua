-- A scheduler says that it lives, and sees who else does, and how many pods every worker has and will have.
-- KEYS: hb:s schedulers workers   ARGV: prefix, scheduler
-- → {time, {worker, heartbeat, load, pods, …}, {scheduler, heartbeat, …}}
local time = redis.call('TIME')[1]
redis.call('SET', KEYS[1], time)
redis.call('SADD', KEYS[2], ARGV[2])
local p, workers, schedulers = ARGV[1], {}, {}
for _, w in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local two = redis.call('MGET', p .. 'hb:' .. w, p .. 'ld:' .. w)
  local pods = redis.call('LLEN', p .. 'pq:' .. w) + redis.call('LLEN', p .. 'rq:' .. w)
    + redis.call('SCARD', p .. 'cs:' .. w)
  workers[#workers + 1] = {w, two[1], two[2], pods}
end
for _, s in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  schedulers[#schedulers + 1] = {s, redis.call('GET', p .. 'hb:s:' .. s)}
end
return {time, workers, schedulers}
