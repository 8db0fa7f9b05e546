"""PURE. Converts Kubernetes objects and registry answers to the planner's `Observed`. Never raises on foreign input."""
