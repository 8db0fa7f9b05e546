-- Health of a ModelDeployment, from its kstatus conditions and its phase. A rollout that waits for a manual promotion is
-- Suspended, like a paused Argo Rollout; one that continues automatically is Progressing.
local hs = { status = "Progressing", message = "Waiting for the spec to be observed" }

if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Waiting for the models to terminate"
  return hs
end

-- The status of an older generation does not apply to the current spec.
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
if conditions.Ready == nil then
  return hs
end

hs.message = conditions.Ready.message
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  hs.status = "Degraded"
elseif obj.status.phase == "Suspended" then
  hs.status = "Suspended"
elseif conditions.Ready.status == "True" then
  hs.status = "Healthy"
elseif obj.status.phase == "Paused" then
  hs.status = "Suspended"
elseif obj.status.phase == "Degraded" and conditions.Available ~= nil and conditions.Available.status == "False" then
  -- The serving version lost its last pod: clients get errors, even though new pods are starting.
  hs.status = "Degraded"
end

-- In other phases the message already contains what the user can do.
if obj.status.phase == "Paused" and obj.status.waiting ~= nil then
  hs.message = hs.message .. "; waits for " .. obj.status.waiting.message
end
return hs
