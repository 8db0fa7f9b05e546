-- Skips the steps that are left of the canary.
local os = require("os")
local status = obj.status or {}
local revision = nil
if status.canary ~= nil then
  revision = status.canary.revision
end
if revision == nil then
  error("nothing is being rolled out")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- The time makes a second click another request than the first.
obj.metadata.annotations["modelsync.dev/promote-full"] = revision .. "/" .. tostring(os.time())
return obj
