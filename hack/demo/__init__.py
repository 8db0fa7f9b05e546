"""`make demo`: the main job on the local cluster, told live in the terminal (inside `localcluster exec`)."""
