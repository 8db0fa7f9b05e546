"""How requests reach the versions: `spec.traffic`."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from modelsync.api.base import ApiModel, Matches, Name, Unique, ordered, written_as
from modelsync.api.duration import Between
from modelsync.api.rollout import HeaderName

_HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

Namespace = Annotated[
    str,
    Field(min_length=1, max_length=63),
    written_as(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "is not a valid namespace name; use lowercase letters, digits and -"
    ),
]
Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matches(_HOSTNAME, "must be a lowercase host name without a port, such as chat.example.com or *.example.com"),
]
Path = Annotated[
    str,
    Field(min_length=2, max_length=128),
    Matches(
        r"^(/[A-Za-z0-9._~-]+)+$",
        "is not a valid path; write a path prefix of vLLM's API, such as /v1, without a trailing slash",
    ),
]


DEFAULT_PATHS = ("/v1",)


class ParentRef(ApiModel):
    """A Gateway, or one of its listeners."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        None, description="Namespace of the Gateway. Its allowedRoutes must allow this namespace. Default: this one."
    )
    section_name: Name | None = Field(
        None, description="Name of the listener. Default: all listeners that allow the route."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of the listeners. Default: every port."
    )


class Gateway(ApiModel):
    """The Gateways that requests come through."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8), ordered()] = Field(
        description="Gateways that the route is attached to."
    )
    hostnames: Annotated[list[Hostname], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Host names of the route. Default: those of the listeners; on a Gateway of another namespace they "
        "must be set.",
    )
    paths: Annotated[list[Path], Field(min_length=1, max_length=6), Unique()] = Field(
        default_factory=lambda: [*DEFAULT_PATHS],
        description="Path prefixes that are published. Nothing else of vLLM can be reached through the gateway. "
        "Default: /v1.",
    )
    request_timeout: Annotated[timedelta, Between("0s", "24h")] = Field(
        timedelta(0),
        description="Maximum time for a request, including its stream. 0s: no limit, so that long streams also work on "
        "gateways that cut them off by default (Envoy: after 15 s).",
    )


class SessionAffinity(ApiModel):
    """Keeps clients on the version that answered them first."""

    max_age: Annotated[timedelta, Between("10s", "24h", whole_seconds=True)] = Field(
        timedelta(hours=1), description="How long a client stays on a version, counted from that first answer."
    )


class Traffic(ApiModel):
    """How requests reach the versions."""

    gateway: Gateway | None = Field(
        None,
        description="Route requests with the Gateway API, which steps need. Without it, the Service with the "
        "ModelDeployment's name selects one revision.",
    )
    settle: Annotated[timedelta, Between("0s", "60s")] = Field(
        timedelta(seconds=5),
        description="How long the gateway's data plane may need to apply a route that the gateway has accepted.",
    )
    test_header: HeaderName | None = Field(
        None,
        description="Name of a request header that sends a request to the revision in its value, whatever the weights: "
        "a revision (`v7-3fa9c1d2`) or a version (`v7`; if several revisions have this version, the stable's). It "
        "works for the stable, the revision being rolled out and the one that is kept warm, if ready and not on hold. "
        "Other values are ignored; responses show their revision in X-Model-Revision. Default: none.",
    )
    session_affinity: SessionAffinity | None = Field(
        None,
        description="During a canary, clients that keep cookies stay on the version that answered them first, stable "
        "or canary. The weights then apply only to new clients and to requests without cookies, so the share of all "
        "requests lags behind the weights. Default: the weights apply to every request.",
    )


TEST_HEADER_MESSAGE = "testHeader needs traffic.gateway; set spec.traffic.gateway, or remove spec.traffic.testHeader"
SESSIONS_MESSAGE = (
    "sessionAffinity needs traffic.gateway; set spec.traffic.gateway, or remove spec.traffic.sessionAffinity"
)
