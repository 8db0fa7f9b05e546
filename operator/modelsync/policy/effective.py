"""What a ModelDeployment goes by: its spec and the administrator's settings, put together.

The one place that says which of the two counts. Nothing here refuses anything; `validation` does.
"""

from dataclasses import dataclass

from modelsync.api.hold import HoldAction
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec


@dataclass(frozen=True, slots=True)
class HoldRules:
    """What holds, and what a hold does at least: the administrator's word and the spec's together."""

    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    action: HoldAction


def registry_of(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Registry | None:
    """The registry to ask: the spec's, else the administrator's, each whole; None when neither names one.

    They are never mixed: a server of one with the key of the other would send a key where its owner has not agreed to.
    """
    return spec.registry if spec.registry is not None else settings.registry


def hold_rules(spec: ModelDeploymentSpec, settings: OperatorSettings) -> HoldRules:
    """The union of both: a ModelDeployment can add marks and demand Block, and take nothing away."""
    demands = {spec.hold.action, settings.hold.action}
    return HoldRules(
        tags=tuple(dict.fromkeys((*settings.hold.tags, *spec.hold.tags))),
        aliases=tuple(dict.fromkeys((*settings.hold.aliases, *spec.hold.aliases))),
        action=HoldAction.BLOCK if HoldAction.BLOCK in demands else HoldAction.FALLBACK,
    )
