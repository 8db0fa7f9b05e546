"""Reads back from a pod what it pulls: the artifacts, and the registry with its Secret. Never raises.

A hold must find what serves even if nothing else describes it: the record of a revision may be deleted or unreadable,
while its pods go on. The pods and the templates are hostile input, since tenants can write both.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from pydantic import ValidationError

from modelsync.api import pod_contract as contract
from modelsync.api.kinds import mapping, sequence
from modelsync.api.model_ref import InvalidReferenceError, ModelRef
from modelsync.api.registry import Registry
from modelsync.resources.objects import Object
from modelsync.resources.revision import Artifact, is_digest

MAX_PULLS = 64
"""Init containers that are read; a revision has at most as many parts."""

MAX_DIGESTS = 256
"""Digests of one revision that count, over all its pods: those of the first ones, so the template goes first."""

MAX_ARGUMENTS = 64

_MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Pulled:
    """What the pods of a revision without a readable record pull, as far as their templates show it."""

    revision: str
    digests: tuple[str, ...]
    """Empty if no template shows any."""
    parts: Mapping[str, Artifact]
    """Those that can be asked for, by digest: a template does not show which part each one is."""
    registry: Registry | None
    """As `pulled_from`."""

    @classmethod
    def by(cls, revision: str, pod_specs: Iterable[Any]) -> Self:
        """Read the pod specs of a revision, its template first. The registry is that of the first one that shows it."""
        digests: dict[str, None] = {}
        parts: dict[str, Artifact] = {}
        registry: Registry | None = None
        for each in pod_specs:
            registry = registry or pulled_from(each)
            for flags in _pulls(each):
                digest = flags.get("--digest", "")
                if not is_digest(digest) or (len(digests) >= MAX_DIGESTS and digest not in digests):
                    continue
                digests[digest] = None
                if digest not in parts and (artifact := _artifact(flags)) is not None:
                    parts[digest] = artifact
        return cls(revision, tuple(sorted(digests)), parts, registry)


def pulled_artifacts(pod_spec: Any) -> tuple[Artifact, ...]:
    """What the init containers pull, each digest once; those that cannot be read are left out.

    A pod does not show the key of each part, nor its size: every size is 0.
    """
    found = {}
    for flags in _pulls(pod_spec):
        if (artifact := _artifact(flags)) is not None:
            found[artifact.digest] = artifact
    return tuple(found.values())


def pulled_from(pod_spec: Any) -> Registry | None:
    """The registry, Secret and CA bundle that a pod pulls with; None if it does not show them."""
    try:
        pull = next(each for each in _init_containers(pod_spec) if each["name"] == contract.PULL_CONTAINER)
        env = {each["name"]: each for each in pull["env"]}
        secret = env["WANDB_API_KEY"]["valueFrom"]["secretKeyRef"]
        found: Object = {
            "baseURL": env["WANDB_BASE_URL"]["value"].replace("$$", "$"),
            "auth": {"secretKeyRef": {"name": secret["name"], "key": secret["key"]}},
        }
        for volume in pod_spec.get("volumes") or ():
            if volume["name"] == "ca":
                bundle = volume["configMap"]
                found["caBundle"] = {"configMapKeyRef": {"name": bundle["name"], "key": bundle["items"][0]["key"]}}
        return Registry.model_validate(found)
    except (KeyError, IndexError, StopIteration, TypeError, AttributeError, ValidationError):
        return None


def template_spec(deployment: Any) -> Any:
    """The pod spec in a Deployment's template; None if there is none."""
    for field in ("spec", "template", "spec"):
        deployment = deployment.get(field) if isinstance(deployment, dict) else None
    return deployment


def _init_containers(pod_spec: Any) -> list[Object]:
    return [each for each in sequence(mapping(pod_spec).get("initContainers")) if isinstance(each, dict)]


def _pulls(pod_spec: Any) -> Iterator[Mapping[str, str]]:
    """The flags of each init container that pulls."""
    for container in islice(_init_containers(pod_spec), MAX_PULLS):
        arguments = container.get("args")
        if isinstance(arguments, list) and arguments[:1] == ["pull"]:
            texts = (each for each in arguments[:MAX_ARGUMENTS] if isinstance(each, str) and "=" in each)
            yield {flag: value.replace("$$", "$") for flag, value in (each.split("=", 1) for each in texts)}


def _artifact(flags: Mapping[str, str]) -> Artifact | None:
    if len(flags.get("--artifact-id", "")) > _MAX_ID:
        return None  # it is sent to the server
    try:
        ref = ModelRef.parse(flags["--ref"])
        return Artifact(
            entity=ref.entity,
            project=ref.project,
            collection=ref.collection,
            version=ref.alias,
            artifact_id=flags["--artifact-id"],
            digest=flags["--digest"],
            size=0,
        )
    except (KeyError, InvalidReferenceError, ValidationError):
        return None
