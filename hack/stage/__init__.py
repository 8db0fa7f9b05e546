"""Everything around a ModelDeployment on the local cluster: W&B stand-in, operator, namespaces, and waiting for states.

The demo and the e2e tests stand on it. It acts as users do (apply, move aliases, set tags) and never reaches into the
operator.
"""

from stage.manifests import model_deployment
from stage.stage import Deployment, Stage, StageError

__all__ = ["Deployment", "Stage", "StageError", "model_deployment"]
