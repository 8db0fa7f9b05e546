-- Health of a ModelDeployment, from its kstatus conditions and its phase. A version that waits for a person is Suspended,
-- as an Argo Rollout that waits is; one that moves by itself is Progressing.
local hs = { status = "Progressing", message = "Waiting for the spec to be observed" }

if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Waiting for the models to end"
  return hs
end

-- What is said of an older spec says nothing of this one.
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local said = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  said[condition.type] = condition
end
if said.Ready == nil then
  return hs
end

hs.message = said.Ready.message
if said.Stalled ~= nil and said.Stalled.status == "True" then
  hs.status = "Degraded"
elseif obj.status.phase == "Suspended" then
  hs.status = "Suspended"
elseif said.Ready.status == "True" then
  hs.status = "Healthy"
elseif obj.status.phase == "Paused" then
  hs.status = "Suspended"
elseif obj.status.phase == "Degraded" and said.Available ~= nil and said.Available.status == "False" then
  -- What served lost its last pod: people get errors, even though pods are coming.
  hs.status = "Degraded"
end

-- Elsewhere the message says already what a person can do.
if obj.status.phase == "Paused" and obj.status.waiting ~= nil then
  hs.message = hs.message .. "; waits for " .. obj.status.waiting.message
end
return hs
