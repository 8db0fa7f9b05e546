-- Ends the canary's current pause.
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
-- With the time, a second click is a new request.
obj.metadata.annotations["modelsync.dev/promote"] = revision .. "/" .. tostring(os.time())
return obj
