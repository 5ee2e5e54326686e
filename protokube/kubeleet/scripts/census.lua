-- All that stands in Redis at this moment.
-- KEYS: sq dl svc workers schedulers   ARGV: prefix, how many of the newest dead letters
-- → {time, sq, dl, {uuid, request, …}, {{worker, hb, ld, ep, pq, rq, cs}, …}, {{scheduler, hb, srq}, …}}
local p, workers, schedulers = ARGV[1], {}, {}
local function list(key) return redis.call('LRANGE', key, 0, -1) end
for _, w in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  local three = redis.call('MGET', p .. 'hb:' .. w, p .. 'ld:' .. w, p .. 'ep:' .. w)
  workers[#workers + 1] = {
    w, three[1], three[2], three[3], list(p .. 'pq:' .. w), list(p .. 'rq:' .. w), redis.call('SMEMBERS', p .. 'cs:' .. w)
  }
end
for _, s in ipairs(redis.call('SMEMBERS', KEYS[5])) do
  schedulers[#schedulers + 1] = {s, redis.call('GET', p .. 'hb:s:' .. s), list(p .. 'srq:' .. s)}
end
local dead = redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1)
return {redis.call('TIME')[1], list(KEYS[1]), dead, redis.call('HGETALL', KEYS[3]), workers, schedulers}
