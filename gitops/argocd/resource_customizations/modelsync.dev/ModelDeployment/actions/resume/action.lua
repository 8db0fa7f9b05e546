-- Allows forward moves again. Not nil: where Git has `suspend: false`, omitting the field would show as a difference.
obj.spec.suspend = false
return obj
