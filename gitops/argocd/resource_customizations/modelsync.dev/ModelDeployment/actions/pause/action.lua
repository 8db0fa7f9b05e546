-- Stops forward moves; holds and rollbacks still take effect.
obj.spec.suspend = true
return obj
