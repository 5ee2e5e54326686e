-- A start has failed: it is counted, and after so many the pod becomes a dead letter. The oldest letters go where there
-- are too many. Counts stay behind of pods that were removed before they started: too many are all begun again.
-- KEYS: ep rq at dl
-- ARGV: epoch, pod, its field of attempts, how many are the last, the letter without its end, most letters and counts
-- → how often it has failed; negative: it is dead | 'GONE' | 'FENCED' | 'EMPTIED'
local epoch = redis.call('GET', KEYS[1])
if not epoch then return 'EMPTIED' end
if epoch ~= ARGV[1] then return 'FENCED' end
if not redis.call('LPOS', KEYS[2], ARGV[2]) then return 'GONE' end
local most = tonumber(ARGV[6])
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 0 and redis.call('HLEN', KEYS[3]) >= most then redis.call('DEL', KEYS[3]) end
local failed = redis.call('HINCRBY', KEYS[3], ARGV[3], 1)
if failed < tonumber(ARGV[4]) then return failed end
redis.call('LREM', KEYS[2], 1, ARGV[2])
redis.call('LPUSH', KEYS[4], ARGV[5] .. ',"attempts":' .. failed .. ',"at":' .. redis.call('TIME')[1] .. '}')
redis.call('LTRIM', KEYS[4], 0, most - 1)
redis.call('HDEL', KEYS[3], ARGV[3])
return -failed
