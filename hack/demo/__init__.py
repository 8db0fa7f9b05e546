"""`make demo`: shows rollouts, a rollback and a hold live in the terminal (inside `localcluster exec`)."""
