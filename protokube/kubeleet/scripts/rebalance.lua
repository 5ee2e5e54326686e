-- Takes everything from a silent worker: once each to the head of the common queue. Its epoch ends, so that it finds
-- itself fenced when it returns.
-- KEYS: hb pq rq cs sq ep workers   ARGV: worker, seconds after which a heartbeat is stale   → pods moved; -1: it lives
local beat = redis.call('GET', KEYS[1])
if beat and redis.call('TIME')[1] - beat <= tonumber(ARGV[2]) then return -1 end
local seen, moved = {}, 0
local function move(pods)
  for _, pod in ipairs(pods) do
    if not seen[pod] then
      seen[pod] = true
      moved = moved + 1
      redis.call('RPUSH', KEYS[5], pod)
    end
  end
end
move(redis.call('LRANGE', KEYS[2], 0, -1))
move(redis.call('LRANGE', KEYS[3], 0, -1))
move(redis.call('SMEMBERS', KEYS[4]))
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('INCR', KEYS[6])
redis.call('SREM', KEYS[7], ARGV[1])
return moved
