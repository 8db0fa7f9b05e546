"""The environment of a ModelDeployment on the local cluster: W&B stand-in, operator, namespaces, waiting for states.

The demo and the e2e tests use it. It acts only as users do (apply, move aliases, set tags), never through the
operator's internals.
"""

from stage.manifests import model_deployment
from stage.stage import Deployment, Stage, StageError

__all__ = ["Deployment", "Stage", "StageError", "model_deployment"]
