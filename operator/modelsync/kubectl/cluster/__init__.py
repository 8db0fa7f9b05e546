"""Access to the cluster through the user's own kubectl."""
