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
    written_as(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "is no name of a namespace; use small letters, digits and -"),
]
Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matches(_HOSTNAME, "must be a host name in lower case without port, such as chat.example.com or *.example.com"),
]
Path = Annotated[
    str,
    Field(min_length=2, max_length=128),
    Matches(
        r"^(/[A-Za-z0-9._~-]+)+$",
        "is no path that can be published; write the start of a path of vLLM's API, such as /v1, without a slash at "
        "the end",
    ),
]


DEFAULT_PATHS = ("/v1",)


class ParentRef(ApiModel):
    """A Gateway, or one of its listeners."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        None, description="Namespace of the Gateway, whose allowedRoutes must consent. Default: this one."
    )
    section_name: Name | None = Field(None, description="Name of the listener. Default: all that allow it.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of the listeners. Default: every port."
    )


class Gateway(ApiModel):
    """The Gateways that bring the requests."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8), ordered()] = Field(
        description="Gateways that carry the route."
    )
    hostnames: Annotated[list[Hostname], Field(max_length=16), Unique()] = Field(
        default_factory=list, description="Host names of the route. Default: those of the listener."
    )
    paths: Annotated[list[Path], Field(min_length=1, max_length=6), Unique()] = Field(
        default_factory=lambda: [*DEFAULT_PATHS],
        description="Paths that are published, each with all below it; nothing else of vLLM can be reached through the "
        "gateway. Default: /v1.",
    )
    request_timeout: Annotated[timedelta, Between("0s", "24h")] = Field(
        timedelta(0),
        description="Longest time for a request, its stream included. 0s: none, so that long streams live also on "
        "gateways that cut them by default (Envoy: after 15 s).",
    )


class SessionAffinity(ApiModel):
    """Clients stay with the version that answered them first."""

    max_age: Annotated[timedelta, Between("10s", "24h", whole_seconds=True)] = Field(
        timedelta(hours=1), description="How long a client stays, counted from that first answer."
    )


class Traffic(ApiModel):
    """How requests reach the versions."""

    gateway: Gateway | None = Field(
        None,
        description="Route by Gateway API, which steps need. Without it the Service that has the ModelDeployment's "
        "name selects one revision.",
    )
    settle: Annotated[timedelta, Between("0s", "60s")] = Field(
        timedelta(seconds=5),
        description="How long the gateway's data plane may lag behind the route that it has accepted.",
    )
    test_header: HeaderName | None = Field(
        None,
        description="Name of a request header that names a revision (`v7-3fa9c1d2`), or its version (`v7`; of several "
        "revisions of one version the stable's), and reaches it at any weight, as long as it is ready and not on hold: "
        "the stable, what is being rolled out, and what is kept warm. Other values are ignored; answers name their "
        "revision in X-Model-Revision. Default: none.",
    )
    session_affinity: SessionAffinity | None = Field(
        None,
        description="During a canary, clients that keep cookies stay with the version that answered them first, stable "
        "or canary. The weights then share out new clients only: the share of all requests follows later, and requests "
        "without cookies go by the weights as ever. Default: every request goes by the weights.",
    )


TEST_HEADER_MESSAGE = "testHeader needs traffic.gateway; set spec.traffic.gateway, or leave spec.traffic.testHeader out"
SESSIONS_MESSAGE = (
    "sessionAffinity needs traffic.gateway; set spec.traffic.gateway, or leave spec.traffic.sessionAffinity out"
)
