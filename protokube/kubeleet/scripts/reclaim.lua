-- Returns what a silent scheduler was placing.
-- KEYS: hb:s srq sq schedulers   ARGV: scheduler, seconds after which a heartbeat is stale   → pods moved; -1: it lives
local beat = redis.call('GET', KEYS[1])
if beat and redis.call('TIME')[1] - beat <= tonumber(ARGV[2]) then return -1 end
local moved = 0
while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do moved = moved + 1 end
redis.call('SREM', KEYS[4], ARGV[1])
return moved
