"""How ModelDeployments are shown to users: as text, as a tree or as a list, once or live."""
