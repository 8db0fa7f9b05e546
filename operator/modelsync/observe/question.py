"""What to query the registry for: the references, and the versions that are exposed, warm or promoted."""

from collections.abc import Iterable

from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, same_server
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.effective import hold_rules, registry_of
from modelsync.registry.model import HoldNames, Question, ServedVersion
from modelsync.resources.pulled import Pulled
from modelsync.resources.record import Record
from modelsync.resources.revision import Artifact
from modelsync.rollout.model import Hold


def question(
    spec: ModelDeploymentSpec, settings: OperatorSettings, in_play: Iterable[Record | Pulled], latched: Iterable[Hold]
) -> Question:
    """The references, each version that is exposed, warm or promoted, and all marks found before on this server."""
    server = server_of(registry_of(spec, settings))
    return Question(
        refs=frozenset(refs(spec).values()),
        served=frozenset(served(artifact) for record in in_play for artifact in record.parts.values()),
        hold=hold_names(spec, settings),
        latched=frozenset(hold.mark for hold in latched if not hold.server or same_server(hold.server, server)),
    )


def hold_names(spec: ModelDeploymentSpec, settings: OperatorSettings) -> HoldNames:
    """What marks a hold for this ModelDeployment."""
    rules = hold_rules(spec, settings)
    return HoldNames(tags=frozenset(rules.tags), aliases=frozenset(rules.aliases))


def administrator_names(settings: OperatorSettings) -> HoldNames:
    """What marks a hold for everything in the cluster."""
    return HoldNames(tags=frozenset(settings.hold.tags), aliases=frozenset(settings.hold.aliases))


def server_of(registry: Registry | None) -> str:
    """Base URL of the server to query; empty if there is none."""
    return registry.base_url.rstrip("/") if registry is not None else ""


def served(artifact: Artifact) -> ServedVersion:
    """The version that a record pins, to be watched for holds even if its alias moves."""
    home = CollectionRef(artifact.entity, artifact.project, artifact.collection)
    return ServedVersion(home, artifact.version, artifact.artifact_id, artifact.digest)


def refs(spec: ModelDeploymentSpec) -> dict[str, ModelRef]:
    """The valid references by key; `validation` reports the others."""
    found = {}
    for key, text in spec.references.items():
        try:
            found[key] = ModelRef.parse(text)
        except InvalidReferenceError:
            continue
    return found
