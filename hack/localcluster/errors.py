"""What the local cluster raises: one sentence for the person at the terminal, who needs no traceback."""


class ClusterError(Exception):
    """Something that a person can act on; the message says where, what, and what to do next."""
