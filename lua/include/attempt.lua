-- attempt_of(attempt, fence): which attempt a job is at, by its fields of that name. The first is
-- not written: most jobs have no other.
local function attempt_of(attempt, fence)
  return tonumber(attempt) or (fence and 1 or 0)
end
