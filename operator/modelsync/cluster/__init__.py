"""Kubernetes I/O: client, watch cache, credentials, Events and the lease. It decides nothing."""
