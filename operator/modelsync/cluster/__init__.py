"""Kubernetes I/O: client, cache, gather, apply, events, lease."""
