-- No forward move from now on; holds and going back still act.
obj.spec.suspend = true
return obj
