"""The state of a W&B server, which its endpoints and its admin commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wandb_standin.admin import DEFAULT_ADMIN_KEY
from wandb_standin.automations import Automations
from wandb_standin.blobs import Blobs
from wandb_standin.faults import Faults
from wandb_standin.features import DEFAULT_FEATURES
from wandb_standin.model import Role
from wandb_standin.paging import PageSizes
from wandb_standin.presign import DEFAULT_EXPIRY_SECONDS, Signer
from wandb_standin.rate_limit import RateLimiter
from wandb_standin.request_log import RequestLog
from wandb_standin.store import Store

DEFAULT_API_KEY: Final = "5eed0000000000000000000000000000000000a1"
DEFAULT_USER: Final = "alice"
DEFAULT_ORGANIZATION: Final = ("Acme", "acme")
DEFAULT_TEAM: Final = "acme-ml"


@dataclass
class Settings:
    """The settings of a server.

    Attributes:
        blobs: folder for the content of files.
        host: address to listen on.
        port: 0 takes a free one.
        api_key: the key of the first user, who may do everything in every project (a role of MEMBER).
        admin_key: bearer token of the admin API.
        url_expiry_seconds: lifetime of presigned URLs.
        features: server features that differ from the default (all that the SDK 0.31 queries are on).
        automations: webhooks and their signatures.
    """

    blobs: Path
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = DEFAULT_API_KEY
    admin_key: str = DEFAULT_ADMIN_KEY
    url_expiry_seconds: float = DEFAULT_EXPIRY_SECONDS
    features: dict[str, bool] = field(default_factory=dict)
    automations: Automations = field(default_factory=Automations)


class ServerState:
    """What a server knows, without its HTTP side."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.automations = settings.automations
        self.store = Store(Blobs(settings.blobs), self.automations.on_event)
        self.faults = Faults()
        self.log = RequestLog()
        self.rate_limiter = RateLimiter()
        self.signer = Signer(settings.url_expiry_seconds)
        self.features = dict.fromkeys(DEFAULT_FEATURES, True) | settings.features
        self.page_sizes = PageSizes()
        self.lacking: frozenset[str] = frozenset()
        """Parts of the schema that this server does not have."""
        self._seed()

    def _seed(self) -> None:
        organization = self.store.add_organization(*DEFAULT_ORGANIZATION)
        self.store.add_team(DEFAULT_TEAM, organization)
        self.store.add_user(DEFAULT_USER, self.settings.api_key, entity=DEFAULT_TEAM, roles={"*": Role.MEMBER})
