"""PURE. What a revision looks like as Kubernetes objects; imports only `modelsync.api`."""
