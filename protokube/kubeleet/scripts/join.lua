-- A worker begins a new epoch, which fences its former self. Where no epoch is left, Redis never knew it, or lost
-- everything: then what runs there is what belongs there.
-- KEYS: ep hb workers cs   ARGV: worker, the pods that run there …   → {epoch, 1 where Redis knew it}
local known = redis.call('EXISTS', KEYS[1])
local epoch = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[2], redis.call('TIME')[1])
redis.call('SADD', KEYS[3], ARGV[1])
if known == 0 then
  for i = 2, #ARGV do redis.call('SADD', KEYS[4], ARGV[i]) end
end
return {epoch, known}
