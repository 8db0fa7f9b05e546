"""The immutable record of a revision: a ControllerRevision with everything that was resolved and rendered.

It is written once, when the revision is created. The Deployment is always taken from it, so that neither a new operator
version nor a changed spec affects running pods. The API server rejects any change of `data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import ValidationError

from modelsync.api import duration, names
from modelsync.api.kinds import name_of
from modelsync.api.parts import MODEL
from modelsync.api.problems import explain
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.effective import registry_of
from modelsync.resources.objects import Object, Owner, metadata
from modelsync.resources.pod import LONGEST_LOAD, Pod, pod_template
from modelsync.resources.pulled import MAX_PULLS, pulled_artifacts, pulled_from, template_spec
from modelsync.resources.revision import NO_OTHERS, Artifact, RevisionInputs, revision_name

FORMAT = 1
"""Format version of `data`. A newer operator must read every older format."""


_PARTS = ("metadata", "spec")


class RecordError(ValueError):
    """A ControllerRevision cannot be read as a record; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record."""

    owner: Owner
    revision: str
    inputs: RevisionInputs
    artifact: Artifact
    others: Mapping[str, Artifact]
    """What is pinned in addition to the model, by key (`api.parts`)."""
    fuse_sha256: str
    pre_stop: timedelta
    """How long a pod continues to serve after it was asked to stop."""
    created: datetime
    """Creation time; the minimum datetime for a record that has not been written yet."""
    image_was_default: bool
    """Whether the spec did not set the image. True for older records without this field, so that a new operator
    version does not restart their pods."""
    template: Object
    """The Deployment without `spec.replicas`. It is part of the cached object and must never be changed."""

    @property
    def version(self) -> str:
        """`v7`."""
        return self.artifact.version

    @property
    def parts(self) -> Mapping[str, Artifact]:
        """All pinned artifacts by key, the model first."""
        return {MODEL: self.artifact, **self.others}

    @property
    def registry(self) -> Registry | None:
        """The registry, Secret and CA bundle that the pods pull with; None if the template does not show them."""
        return pulled_from(template_spec(self.template))

    @property
    def content(self) -> str:
        """See RevisionInputs.content."""
        return self.inputs.content

    @property
    def digests(self) -> tuple[str, ...]:
        """All its digests; a hold may be on any of them."""
        return tuple(sorted(set(self.inputs.digests.values())))

    @classmethod
    def parse(cls, controller_revision: Object) -> Self:
        """Read a ControllerRevision that `record` created. Raises RecordError.

        Without an owner (an orphaning delete, a restore from a backup) the name label says whose it is, with uid "".
        """
        name = name_of(controller_revision)
        data = controller_revision.get("data")
        try:
            meta = controller_revision["metadata"]
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                found = data.get("format") if isinstance(data, dict) else None
                raise RecordError(
                    f"its format is {found!r}, but this operator reads {FORMAT}; run the operator version that wrote it"
                )
            owner = _owner(meta)
            revision = names.revision_of(owner.name, name)
            if revision is None:
                raise RecordError(f"its name is not that of a revision of {owner.name}")
            if len(data.get("artifacts") or ()) > MAX_PULLS:
                raise RecordError(f"it names more than {MAX_PULLS} artifacts")
            # Ignores fields that a newer operator added, so that a downgrade loses no revision.
            inputs = RevisionInputs.model_validate(data["inputs"], extra="ignore")
            artifact = Artifact.model_validate(data["artifact"], extra="ignore")
            others = {
                key: Artifact.model_validate(other, extra="ignore")
                for key, other in (data.get("artifacts") or {}).items()
            }
            named = {each.digest for each in (artifact, *others.values())}
            pulled = {each.digest for each in pulled_artifacts(template_spec(data["deployment"]))}
            if named != set(inputs.digests.values()) or not pulled <= named:
                # Somebody else wrote it: a hold on what the pods pull would not find them.
                raise RecordError("its inputs, its artifacts and its pods do not name the same content")
            return cls(
                owner=owner,
                revision=revision,
                inputs=inputs,
                artifact=artifact,
                others=others,
                fuse_sha256=str(data["fuseSHA256"]),
                pre_stop=duration.parse(data["preStop"]),
                created=_time(meta.get("creationTimestamp")),
                image_was_default=data.get("imageWasDefault") is not False,
                template=_template(data["deployment"]),
            )
        except RecordError as error:
            raise RecordError(f"ControllerRevision {name}: {error}") from None
        except ValidationError as error:
            lines = "; ".join(map(str, explain(error, root="data")))
            raise RecordError(f"ControllerRevision {name}: {lines}") from None
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise RecordError(
                f"ControllerRevision {name} is not a complete record: {error!r} is missing or not valid"
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
    registry: Registry | None = None,
) -> Object:
    """The ControllerRevision for `inputs`, to be created once.

    From `spec` it takes what the pod needs but the hash does not contain: the registry, unless `registry` is given, and
    `traffic.settle`, which a stopping pod waits for. `fuse_sha256` is the hexadecimal SHA-256 of the token in the
    revision's fuse Secret; `lora_rank` is vLLM's `--max-lora-rank`. Raises ValueError if there is no registry, which
    `validation` rejects before.
    """
    registry = registry or registry_of(spec, settings)
    if registry is None:
        raise ValueError("spec.registry: is not set; without a registry no pod can pull its model")
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
            "revisionHistoryLimit": 0,  # the template never changes, so there is nothing to roll back to
            # Longer than any load: spec.rollout.progressDeadline decides, since it excludes pulls and pauses.
            "progressDeadlineSeconds": int(2 * LONGEST_LOAD.total_seconds()),
            "selector": {"matchLabels": names.selector(owner.name, revision)},
            # If anyone edits the template by hand, no serving pod is removed before its replacement is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _owner(meta: Mapping[str, Any]) -> Owner:
    """The controller. Raises KeyError if there is neither a controller nor the name label."""
    for each in meta.get("ownerReferences") or ():
        if each.get("controller"):
            return Owner(name=each["name"], namespace=meta["namespace"], uid=each["uid"])
    return Owner(name=(meta.get("labels") or {})[names.NAME_LABEL], namespace=meta["namespace"], uid="")


def _time(text: Any) -> datetime:
    if not text:
        return datetime.min.replace(tzinfo=UTC)
    parsed = datetime.fromisoformat(str(text))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _template(deployment: Any) -> Object:
    """A Deployment that replicas can be added to. Raises TypeError."""
    if not isinstance(deployment, dict) or not all(isinstance(deployment.get(part), dict) for part in _PARTS):
        raise TypeError("deployment")
    return deployment
