-- Asks for a look at the registry now.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["modelsync.dev/requested-at"] = tostring(os.time())
return obj
