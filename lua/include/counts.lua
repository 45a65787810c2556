-- count(counts, changes): add to the exact number of jobs in each state in which they wait. (Those
-- that run are in leases, those that ended in the indexes of what has finished.)
-- changes: table of state to difference.
local function count(counts, changes)
  for state, change in pairs(changes) do
    if change ~= 0 then
      redis.call('HINCRBY', counts, state, change)
    end
  end
end
