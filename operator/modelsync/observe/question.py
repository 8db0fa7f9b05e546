"""What to ask the registry for a ModelDeployment: its references, and what is exposed, warm or promoted."""

from collections.abc import Iterable

from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, same_server
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.effective import hold_rules, registry_of
from modelsync.registry.model import HoldNames, Question, ServedVersion
from modelsync.resources.record import Record
from modelsync.resources.revision import Artifact
from modelsync.rollout.model import Hold


def question(
    spec: ModelDeploymentSpec, settings: OperatorSettings, in_play: Iterable[Record], latched: Iterable[Hold]
) -> Question:
    """The alias, each version that is exposed, warm or promoted, and every mark that was seen before on this server."""
    rules, server = hold_rules(spec, settings), server_of(registry_of(spec, settings))
    return Question(
        refs=frozenset(refs(spec).values()),
        served=frozenset(served(artifact) for record in in_play for artifact in record.parts.values()),
        hold=HoldNames(tags=frozenset(rules.tags), aliases=frozenset(rules.aliases)),
        latched=frozenset(hold.mark for hold in latched if not hold.server or same_server(hold.server, server)),
    )


def server_of(registry: Registry | None) -> str:
    """Base URL of who is asked; empty when nobody is."""
    return registry.base_url.rstrip("/") if registry is not None else ""


def served(artifact: Artifact) -> ServedVersion:
    """The version that a record pins, as one to watch wherever its alias goes."""
    home = CollectionRef(artifact.entity, artifact.project, artifact.collection)
    return ServedVersion(home, artifact.version, artifact.artifact_id, artifact.digest)


def refs(spec: ModelDeploymentSpec) -> dict[str, ModelRef]:
    """The references by key; without those that are none, which `validation` tells the user."""
    found = {}
    for key, text in spec.references.items():
        try:
            found[key] = ModelRef.parse(text)
        except InvalidReferenceError:
            continue
    return found
