-- Takes more pods from the common queue into a scheduler's own.
-- KEYS: sq srq   ARGV: how many   → the pods
local taken = {}
for i = 1, tonumber(ARGV[1]) do
  local pod = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
  if not pod then break end
  taken[i] = pod
end
return taken
