"""Combines a ModelDeployment's spec with the administrator's settings.

Only this module decides which of the two applies. It must never reject anything; `validation` does that.
"""

from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase

from modelsync.api.hold import HoldAction, OnStale
from modelsync.api.model_ref import InvalidReferenceError, ModelRef
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, OwnRegistry, same_server
from modelsync.api.spec import ModelDeploymentSpec

_POLLS = 3
"""How often the registry is polled within `maxStaleness`, whatever `pollInterval` says: one answer may get lost."""


@dataclass(frozen=True, slots=True)
class HoldRules:
    """What marks a hold, what a hold does, and how old the knowledge of marks may be: the administrator's settings and
    the spec combined."""

    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    action: HoldAction
    max_staleness: timedelta
    on_stale: OnStale


def registry_of(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Registry | None:
    """The registry to query: the spec's, else the administrator's default; None if neither is set.

    Fields of the two must never be mixed: that could send one owner's API key to a server chosen by the other. Only
    `pollInterval` is bounded by the administrator: a rare poll would let the knowledge of marks grow stale.
    """
    registry = spec.registry if spec.registry is not None else settings.registry
    if registry is None:
        return None
    return _polled_within(hold_rules(spec, settings).max_staleness / _POLLS, registry)


def own_registry(spec: ModelDeploymentSpec, namespace: str, settings: OperatorSettings) -> OwnRegistry | None:
    """The operator's own credential, if it resolves the references of this ModelDeployment; else None.

    Only for a spec without a registry, and only if the administrator lists every project that it names for the
    namespace: otherwise a tenant could read with it what the tenant's own key cannot.
    """
    default = settings.registry
    if spec.registry is not None or default is None:
        return None
    own = next((each for each in settings.registries if same_server(each.base_url, default.base_url)), None)
    if own is None:
        return None
    projects = [
        project
        for rule in own.resolve_for
        if any(fnmatchcase(namespace, pattern) for pattern in rule.namespaces)
        for project in rule.projects
    ]
    try:
        named = {(ref.entity, ref.project) for ref in map(ModelRef.parse, spec.references.values())}
    except InvalidReferenceError:
        return None
    listed = all(any(fnmatchcase("/".join(each), pattern) for pattern in projects) for each in named)
    return own if listed else None


def capped(registry: Registry, settings: OperatorSettings) -> Registry:
    """The registry with a poll interval of at most the administrator's: a spec can only ask for more."""
    return _polled_within(min(settings.hold.poll_interval, settings.hold.max_staleness / _POLLS), registry)


def _polled_within(longest: timedelta, registry: Registry) -> Registry:
    return registry if registry.poll_interval <= longest else registry.model_copy(update={"poll_interval": longest})


def allowed_servers(settings: OperatorSettings) -> tuple[str, ...]:
    """Base URLs of the servers that may get a key: the administrator's list, and the server of the default registry."""
    default = settings.registry
    return (*settings.allowed_registries, *((default.base_url,) if default is not None else ()))


def is_allowed_server(url: str, settings: OperatorSettings) -> bool:
    """Whether a key may be sent to the server at `url`."""
    return any(same_server(url, each) for each in allowed_servers(settings))


def hold_rules(spec: ModelDeploymentSpec, settings: OperatorSettings) -> HoldRules:
    """The union of both: a ModelDeployment can add marks, require Block, and ask for fresher knowledge, but weaken
    nothing."""
    actions = {spec.hold.action, settings.hold.action}
    return HoldRules(
        tags=tuple(dict.fromkeys((*settings.hold.tags, *spec.hold.tags))),
        aliases=tuple(dict.fromkeys((*settings.hold.aliases, *spec.hold.aliases))),
        action=HoldAction.BLOCK if HoldAction.BLOCK in actions else HoldAction.FALLBACK,
        max_staleness=min(settings.hold.max_staleness, spec.hold.max_staleness or settings.hold.max_staleness),
        on_stale=settings.hold.on_stale,
    )
