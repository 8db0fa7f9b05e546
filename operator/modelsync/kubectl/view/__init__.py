"""ModelDeployments as people see them: in words, as a tree, as a list, once or live."""
