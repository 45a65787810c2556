-- count(counts, changes): add to the exact number of jobs in each state that does not end.
-- changes: table of state to difference.
local function count(counts, changes)
  for state, change in pairs(changes) do
    if change ~= 0 then
      redis.call('HINCRBY', counts, state, change)
    end
  end
end
