"""A stand-in for a W&B server: a small local server that speaks W&B's protocol, for tests, the demo and development.

It must never become a mock of our own client: the real wandb SDK runs against it in the tests, and it refuses what it
does not implement instead of inventing an answer. `python -m wandb_standin` runs it; in a test: `with StandIn() as s`.
"""

from wandb_standin.admin import Admin, AdminError, Delivery, LoggedRequest, Version
from wandb_standin.standin import StandIn
from wandb_standin.state import DEFAULT_API_KEY, Settings

__all__ = ["DEFAULT_API_KEY", "Admin", "AdminError", "Delivery", "LoggedRequest", "Settings", "StandIn", "Version"]
