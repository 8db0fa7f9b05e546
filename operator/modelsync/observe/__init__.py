"""PURE. Kubernetes objects and the registry's answers -> the planner's `Observed`. Raises for no foreign input."""
