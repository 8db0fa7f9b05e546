-- Takes the canary back, or ends a way back.
local os = require("os")
local status = obj.status or {}
local revision = nil
if status.canary ~= nil then
  revision = status.canary.revision
end
if revision == nil and status.target ~= nil and status.target.reason == "Rollback" then
  revision = status.target.revision
end
if revision == nil then
  error("nothing is being rolled out, and nothing goes back")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- The time makes a second click another request than the first.
obj.metadata.annotations["modelsync.dev/abort"] = revision .. "/" .. tostring(os.time())
return obj
