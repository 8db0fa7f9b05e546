"""The registry that versions come from: `spec.registry`."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches, Name, written_as
from modelsync.api.duration import Between

_BASE_URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$"

Key = Annotated[
    str,
    Field(min_length=1, max_length=253),
    written_as(r"^[-._a-zA-Z0-9]+$", "is not a valid key of a Secret or ConfigMap; use letters, digits, -, _ and ."),
]


class SecretKeyRef(ApiModel):
    """A key of a Secret in this namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Key = Field(description="Key in the Secret.")


class ConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap in this namespace."""

    name: Name = Field(description="Name of the ConfigMap.")
    key: Key = Field(description="Key in the ConfigMap.")


class Auth(ApiModel):
    """Where the W&B API key is."""

    secret_key_ref: SecretKeyRef = Field(
        description="The Secret with the W&B API key. It must have the label modelsync.dev/wandb-credential: 'true'."
    )


class CABundle(ApiModel):
    """Where the certificates of a private certificate authority (CA) are."""

    config_map_key_ref: ConfigMapKeyRef = Field(description="The ConfigMap with the certificates, in PEM format.")


class Registry(ApiModel):
    """The W&B server and the credential for it."""

    base_url: Annotated[
        str,
        Field(min_length=1, max_length=253),
        Matches(
            _BASE_URL, "must be the URL of a W&B server without user, query and fragment, such as https://api.wandb.ai"
        ),
    ] = Field(
        alias="baseURL",
        description="URL of the W&B server, such as https://api.wandb.ai. The administrator defines which servers are "
        "allowed.",
    )
    auth: Auth = Field(description="Credential for the server.")
    ca_bundle: CABundle | None = Field(
        None, description="Certificates to trust in addition to the public ones, for a server with a private CA."
    )
    poll_interval: Annotated[timedelta, Between("1s", "1h")] = Field(
        timedelta(seconds=30), description="How often the registry is polled. A webhook triggers an additional poll."
    )
