-- Forward moves go on. Not nil: where git says `suspend: false`, leaving it out would be a difference.
obj.spec.suspend = false
return obj
