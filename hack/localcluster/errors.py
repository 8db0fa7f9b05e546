"""The errors of the local cluster, for people at the terminal: one sentence, no traceback."""


class ClusterError(Exception):
    """An error that the user can fix; the message contains where, what, and what to do next."""
