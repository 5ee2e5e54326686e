-- Queues a dead letter's pod once more.
-- KEYS: dl sq at   ARGV: letter, pod, its field of attempts   → 1 where the letter was there
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[3])
return 1
