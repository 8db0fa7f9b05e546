"""The administrator's settings for all ModelDeployments: `modelsync run --config FILE`.

They are limits that no tenant can exceed. An empty list allows nothing.
"""

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from modelsync.api.base import Matches
from modelsync.api.duration import Between
from modelsync.api.hold import AliasPattern, HoldAction, MaxStaleness, OnStale, Tag
from modelsync.api.problems import explain
from modelsync.api.registry import Registry
from modelsync.api.serving import Image

ServerURL = Annotated[
    str, Matches(r"^https?://[^\s@?#]+$", "is not the URL of a W&B server; write it like https://wandb.example.com")
]
Repository = Annotated[
    str,
    # A tag would look as if only that tag were allowed.
    Matches(
        r"^([^\s@/]+/)*[^\s@/:]+$",
        "is not a valid image repository; write it without tag and digest, such as vllm/vllm-openai",
    ),
]
Flag = Annotated[
    str,
    Matches(
        r"^--[a-z0-9][A-Za-z0-9._-]*$",
        "is not a valid vLLM flag; write it without a value, such as --trust-remote-code",
    ),
]
EnvPattern = Annotated[
    str,
    Matches(r"^[A-Za-z0-9_*]+$", "is not a valid environment variable name; use letters, digits, _ and the wildcard *"),
]


class SettingsError(ValueError):
    """The administrator's file is not valid; the message says where, why, and what is allowed."""


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class HoldSettings(_Part):
    """Holds that apply to every ModelDeployment, in addition to its own."""

    tags: tuple[Tag, ...] = Field(("regulatory-hold",), description="Tags that put a version on hold.")
    aliases: tuple[AliasPattern, ...] = Field(
        ("regulatory-hold", "regulatory-hold-*"),
        description="Aliases that put a version on hold; * and ? are wildcards.",
    )
    action: HoldAction = Field(
        HoldAction.FALLBACK,
        description="The minimum effect of a hold: if it is Block, a ModelDeployment cannot weaken it to Fallback.",
    )
    max_staleness: MaxStaleness = Field(
        timedelta(minutes=5),
        description="How old the knowledge of a version's hold marks may be, from 1m to 24h. Older knowledge stops "
        "forward moves to the version, is reported (condition HoldsKnown), and raises an alert. A ModelDeployment can "
        "only ask for less. The registry is polled at least three times as often.",
    )
    on_stale: OnStale = Field(
        OnStale.SERVE,
        description="What becomes of a version that serves when that knowledge is older than maxStaleness. Serve: it "
        "goes on serving. Block: clients get 503 until the registry answers again; its pods keep running.",
    )
    poll_interval: Annotated[timedelta, Between("1s", "10m")] = Field(
        timedelta(minutes=1),
        description="How often the registries are polled at least, also for a ModelDeployment with a longer "
        "pollInterval.",
    )


NamespacePattern = Annotated[
    str, Matches(r"^[-a-z0-9*]+$", "is not a namespace or a pattern for some; use lowercase letters, digits, - and *")
]
ProjectPattern = Annotated[
    str,
    Matches(
        r"^[^\s/:?\[\]][^/:?\[\]]*/[^/:?\[\]]*[^\s/:?\[\]]$",
        "is not an entity and a project; write them like acme/wandb-registry-model, with * for any characters",
    ),
]


class ResolveFor(_Part):
    """For whom the operator's own credential resolves references."""

    namespaces: Annotated[tuple[NamespacePattern, ...], Field(min_length=1, max_length=256)] = Field(
        description="Namespaces whose ModelDeployments may use it; * matches any characters."
    )
    projects: Annotated[tuple[ProjectPattern, ...], Field(min_length=1, max_length=256)] = Field(
        description="What they may name, as entity/project; * matches any characters."
    )


class OwnRegistry(Registry):
    """A W&B server and the operator's own credential for it."""

    resolve_for: Annotated[tuple[ResolveFor, ...], Field(max_length=64)] = Field(
        (),
        description="Lets the credential also resolve references of ModelDeployments that leave spec.registry out, "
        "only in these namespaces and only of these projects. Their pods still pull with the default registry's "
        "Secret.",
    )


def _default_puller() -> str:
    try:
        return f"modelsync:{installed_version('modelsync')}"
    except PackageNotFoundError:
        return "modelsync:latest"


class OperatorSettings(_Part):
    """The administrator's settings. The reference page shows the descriptions of the fields."""

    registry: Registry | None = Field(
        None,
        description="The default for ModelDeployments without spec.registry. It has the same fields and is used as a "
        "whole. The Secret and the ConfigMap are looked up in the ModelDeployment's own namespace. Its server needs no "
        "entry in allowedRegistries.",
    )
    registries: Annotated[tuple[OwnRegistry, ...], Field(max_length=16)] = Field(
        (),
        description="The operator's own credentials, one for each W&B server, with the fields of spec.registry. The "
        "Secret and the ConfigMap are in the operator's namespace. With such a credential everything that serves from "
        "this server is watched for holds, in addition to the credentials of the ModelDeployments. It must be able to "
        "read every collection that they use; it is never given to a pod. With resolveFor, a list of namespaces and "
        "projects (entity/project), it also resolves references of ModelDeployments without spec.registry.",
    )
    allowed_registries: tuple[ServerURL, ...] = Field(
        ("https://api.wandb.ai",),
        description="Base URLs of the W&B servers that a ModelDeployment may use. A trailing slash is ignored.",
    )
    allowed_images: tuple[Repository, ...] = Field(
        ("vllm/vllm-openai",),
        description="Repositories that spec.serving.image may come from, without tag; * matches any characters. "
        "`vllm/vllm-openai` and `docker.io/vllm/vllm-openai` are the same.",
    )
    allowed_args: tuple[Flag, ...] = Field(
        (),
        description="vLLM flags that are not allowed by default, such as --trust-remote-code. Write one key of a JSON "
        "flag as --compilation-config.backend.",
    )
    allowed_env: tuple[EnvPattern, ...] = Field(
        (), description="Names of environment variables in addition to the built-in list; * matches any characters."
    )
    hold: HoldSettings = Field(
        default_factory=lambda: HoldSettings(), description="Holds that apply to every ModelDeployment."
    )
    serving_image: Image = Field(
        "vllm/vllm-openai:v0.32.0", description="Image of vLLM for new revisions whose spec does not set one."
    )
    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        2000,
        description="User and group of the pods of new revisions; must not be root. 2000 is the user of vLLM's own "
        "images. With null the cluster chooses both, as OpenShift requires, where each namespace has its own range.",
    )
    puller_image: Image = Field(
        default_factory=_default_puller, description="Image of modelsync, for the pods' init container."
    )

    @field_validator("registries")
    @classmethod
    def _one_for_each_server(cls, registries: tuple[OwnRegistry, ...]) -> tuple[OwnRegistry, ...]:
        for number, each in enumerate(registries):
            if any(same_server(each.base_url, other.base_url) for other in registries[:number]):
                raise ValueError(f"{each.base_url} is listed twice; list each server once")
        return registries


_ALIASES = {"api.forge.coreweave.com": "api.wandb.ai"}
"""W&B's cloud answers under two names: one server, with one set of holds."""


def same_server(url: str, allowed: str) -> bool:
    """Whether two base URLs mean the same server, ignoring the case of scheme and host, a trailing slash, and under
    which of its names W&B's cloud is addressed."""
    return server_key(url) == server_key(allowed)


ServerKey: TypeAlias = tuple[str, str, str]
"""Equal for the base URLs of one server."""


def server_key(url: str) -> ServerKey:
    """What identifies the server of a base URL, for use in a mapping; `same_server` compares it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # `http://[1]`; as it is, it equals nothing but itself
        return "", url, ""
    host = parts.netloc.lower()
    return parts.scheme.lower(), _ALIASES.get(host, host), parts.path.rstrip("/")


def load(path: Path) -> OperatorSettings:
    """Read the administrator's YAML file. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); give --config a readable YAML file") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8; write the file in UTF-8") from None
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, a number of 5,000 digits
        raise SettingsError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise SettingsError(f"{path}: is nested too deeply; no setting is") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise SettingsError(
            f"{path}: must contain a mapping of settings, such as `allowedRegistries: [https://api.wandb.ai]`"
        )
    return parse(raw, source=str(path))


def parse(raw: Mapping[str, Any], *, source: str = "settings") -> OperatorSettings:
    """Read settings from a mapping; `source` names their origin in errors. Raises SettingsError."""
    try:
        return OperatorSettings.model_validate(raw)
    except ValidationError as error:
        lines = "; ".join(map(str, explain(error, root="")))
        raise SettingsError(f"{source}: {lines}") from error
