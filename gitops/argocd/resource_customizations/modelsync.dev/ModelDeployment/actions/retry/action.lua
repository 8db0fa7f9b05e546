-- Tries the failed version that the alias names again.
local os = require("os")
local status = obj.status or {}
local revision = nil
for _, failure in ipairs(status.failed or {}) do
  if status.resolved ~= nil and failure.revision == status.resolved.revision then
    revision = failure.revision
  end
end
if revision == nil then
  error("the version that the alias names has not failed")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- With the time, a second click is a new request.
obj.metadata.annotations["modelsync.dev/retry"] = revision .. "/" .. tostring(os.time())
return obj
