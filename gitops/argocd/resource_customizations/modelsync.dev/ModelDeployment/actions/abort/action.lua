-- Rolls the canary back, or ends a rollback to an earlier version.
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
  error("nothing is being rolled out or rolled back")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- With the time, a second click is a new request.
obj.metadata.annotations["modelsync.dev/abort"] = revision .. "/" .. tostring(os.time())
return obj
