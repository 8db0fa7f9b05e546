-- Requests a registry query now.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["modelsync.dev/requested-at"] = tostring(os.time())
return obj
