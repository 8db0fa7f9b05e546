"""A real Kubernetes on one Linux machine, for tests, the demo and the benchmarks; see docs/design/local-cluster.md."""

from localcluster.cluster import Cluster, ClusterStatus
from localcluster.errors import ClusterError
from localcluster.foreign import current_cluster
from localcluster.progress import Progress

__all__ = ["Cluster", "ClusterError", "ClusterStatus", "Progress", "current_cluster"]
