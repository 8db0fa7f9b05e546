-- Lets the version that the alias names be tried again.
local os = require("os")
local status = obj.status or {}
local revision = nil
for _, failure in ipairs(status.failed or {}) do
  if status.resolved ~= nil and failure.revision == status.resolved.revision then
    revision = failure.revision
  end
end
if revision == nil then
  error("what the alias names has not failed")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- The time makes a second click another request than the first.
obj.metadata.annotations["modelsync.dev/retry"] = revision .. "/" .. tostring(os.time())
return obj
