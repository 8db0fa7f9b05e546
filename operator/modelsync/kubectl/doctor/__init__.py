"""`kubectl modelsync doctor`: checks of a cluster and of a ModelDeployment."""
