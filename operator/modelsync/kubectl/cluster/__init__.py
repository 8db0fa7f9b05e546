"""The way to the cluster: the user's own kubectl, and what is read through it."""
