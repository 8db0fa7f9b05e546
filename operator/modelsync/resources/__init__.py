"""PURE. Renders a revision as Kubernetes objects; imports only `modelsync.api` and `modelsync.policy`."""
