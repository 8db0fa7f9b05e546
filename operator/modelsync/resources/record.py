"""The immutable record of a revision: a ControllerRevision with everything that was resolved and rendered.

Written once, when the revision is made. Its Deployment is always taken from it, so that neither a later operator nor a
changed spec touches pods that run. The apiserver refuses any change of `data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import ValidationError

from modelsync.api import duration, names
from modelsync.api.parts import MODEL
from modelsync.api.problems import explain
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.effective import registry_of
from modelsync.resources.objects import Object, Owner, metadata
from modelsync.resources.pod import LONGEST_LOAD, Pod, pod_template
from modelsync.resources.revision import NO_OTHERS, Artifact, RevisionInputs, revision_name

FORMAT = 1
"""Layout of `data`. A later operator reads every earlier one."""


class RecordError(ValueError):
    """A ControllerRevision cannot be read as a record; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record, read back."""

    owner: Owner
    revision: str
    inputs: RevisionInputs
    artifact: Artifact
    others: Mapping[str, Artifact]
    """What is pinned beside the model, by key (`api.references`)."""
    fuse_sha256: str
    pre_stop: timedelta
    """How long a pod that is told to stop goes on serving as if nothing had happened."""
    created: datetime
    """Of a record that was not written yet, the earliest time there is."""
    image_was_default: bool
    """Whether the spec that it was made of left the image out. Records from before this was written down count as
    such, so that reading them by a newer operator restarts nothing."""
    template: Object
    """The Deployment, without `spec.replicas`; part of the object that was read, so never to be changed."""

    @property
    def version(self) -> str:
        """`v7`."""
        return self.artifact.version

    @property
    def parts(self) -> Mapping[str, Artifact]:
        """Everything that is pinned, by key, the model first."""
        return {MODEL: self.artifact, **self.others}

    @property
    def content(self) -> str:
        """See RevisionInputs.content."""
        return self.inputs.content

    @property
    def digests(self) -> tuple[str, ...]:
        """Every digest in it, which a hold may name."""
        return tuple(sorted(set(self.inputs.digests.values())))

    @classmethod
    def parse(cls, controller_revision: Object) -> Self:
        """Read a ControllerRevision that `record` made. Raises RecordError."""
        meta = controller_revision.get("metadata") or {}
        name = meta.get("name", "")
        data = controller_revision.get("data")
        try:
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                found = data.get("format") if isinstance(data, dict) else None
                raise RecordError(
                    f"its format is {found!r}, this operator reads {FORMAT}; run the operator that wrote it"
                )
            controller = next(owner for owner in meta["ownerReferences"] if owner.get("controller"))
            owner = Owner(name=controller["name"], namespace=meta["namespace"], uid=controller["uid"])
            revision = names.revision_of(owner.name, name)
            if revision is None:
                raise RecordError(f"its name is not that of a revision of {owner.name}")
            return cls(
                owner=owner,
                revision=revision,
                # What a newer operator added is left out, so that going back to this one loses no revision.
                inputs=RevisionInputs.model_validate(data["inputs"], extra="ignore"),
                artifact=Artifact.model_validate(data["artifact"], extra="ignore"),
                others={
                    key: Artifact.model_validate(other, extra="ignore")
                    for key, other in (data.get("artifacts") or {}).items()
                },
                fuse_sha256=str(data["fuseSHA256"]),
                pre_stop=duration.parse(data["preStop"]),
                created=_time(meta.get("creationTimestamp")),
                image_was_default=data.get("imageWasDefault") is not False,
                template=data["deployment"],
            )
        except RecordError as error:
            raise RecordError(f"ControllerRevision {name}: {error}") from None
        except ValidationError as error:
            lines = "; ".join(map(str, explain(error, root="data")))
            raise RecordError(f"ControllerRevision {name}: {lines}") from None
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise RecordError(
                f"ControllerRevision {name} is not a whole record: {error!r} is missing or wrong"
            ) from None


def record(
    owner: Owner,
    inputs: RevisionInputs,
    artifact: Artifact,
    spec: ModelDeploymentSpec,
    settings: OperatorSettings,
    *,
    fuse_sha256: str,
    others: Mapping[str, Artifact] = NO_OTHERS,
    lora_rank: int | None = None,
) -> Object:
    """The ControllerRevision of what `inputs` names, to be created once.

    Of `spec` it captures what the hash leaves out and a pod needs: how to reach the registry, and `traffic.settle`,
    which a stopping pod waits for. `fuse_sha256` is the hexadecimal SHA-256 of the token in the revision's fuse Secret;
    `lora_rank` is what vLLM has to be started with for its adapters. Raises ValueError when neither spec nor settings
    name a registry; `validation` has refused such a spec before.
    """
    registry = registry_of(spec, settings)
    if registry is None:
        raise ValueError("spec.registry: without a registry no pod can pull its model")
    revision = revision_name(inputs)
    pod = Pod(
        owner.name,
        revision,
        inputs,
        artifact,
        registry,
        spec.traffic.settle,
        settings.puller_image,
        fuse_sha256,
        others,
        settings.run_as_user,
        lora_rank,
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(owner, names.child(owner.name, revision), revision),
        "revision": int(inputs.version.removeprefix("v")),
        "data": {
            "format": FORMAT,
            "inputs": inputs.wire(),
            "artifact": artifact.wire(),
            **({"artifacts": {key: other.wire() for key, other in others.items()}} if others else {}),
            "fuseSHA256": fuse_sha256,
            "preStop": duration.render(pod.pre_stop),
            "imageWasDefault": spec.serving.image is None,
            "deployment": _deployment(owner, revision, pod_template(pod)),
        },
    }


def _deployment(owner: Owner, revision: str, template: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, names.child(owner.name, revision), revision),
        "spec": {
            "revisionHistoryLimit": 0,  # the template never changes: there is nothing to go back to
            # Beyond every load: spec.rollout.progressDeadline is what judges, and it knows of pulls and pauses.
            "progressDeadlineSeconds": int(2 * LONGEST_LOAD.total_seconds()),
            "selector": {"matchLabels": names.selector(owner.name, revision)},
            # Should anyone edit the template by hand, no pod that serves is taken before its successor is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _time(text: Any) -> datetime:
    if not text:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
