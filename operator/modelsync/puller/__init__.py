"""The verified download. Runs in the pod; knows nothing of Kubernetes."""
