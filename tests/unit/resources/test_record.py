"""The immutable record, which is the only source of a Deployment."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelsync.api.settings import OperatorSettings
from modelsync.resources.children import deployment, fuse_secret
from modelsync.resources.objects import Object, Owner
from modelsync.resources.pulled import Pulled, pulled_from, template_spec
from modelsync.resources.record import Record, RecordError

Make = Callable[..., Object]


@pytest.fixture
def written(make_record: Make) -> Object:
    """The object as the API server returns it."""
    found: Object = json.loads(json.dumps(make_record(traffic={"settle": "7s"})))
    found["metadata"] |= {"creationTimestamp": "2026-11-21T08:00:00Z", "resourceVersion": "7", "uid": "r"}
    return found


def test_a_record_is_read_back_whole(written: Object, owner: Owner) -> None:
    record = Record.parse(written)
    assert record.owner == owner
    assert written["metadata"]["name"] == f"chat-{record.revision}"
    assert (record.version, record.digests) == ("v7", ("d41d8cd98f00b204e9800998ecf8427e",))
    assert record.content == record.inputs.content
    assert record.artifact.ref == "acme/wandb-registry-model/chat llm:v7"
    assert record.pre_stop == timedelta(seconds=7)
    assert record.created == datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert record.fuse_sha256 == "5f" * 32


@pytest.mark.parametrize(
    "registry",
    [
        {"baseURL": "https://wandb.example.com", "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}},
        {
            "baseURL": "https://wandb.example.com/a~b",
            "auth": {"secretKeyRef": {"name": "other", "key": "key.1"}},
            "caBundle": {"configMapKeyRef": {"name": "corp-ca", "key": "ca.pem"}},
        },
    ],
)
def test_the_registry_is_read_back_from_the_template(make_record: Make, registry: Object) -> None:
    record = Record.parse(json.loads(json.dumps(make_record(registry=registry))))
    assert record.registry is not None
    assert record.registry.wire() == {**registry, "pollInterval": "30s"}


@pytest.mark.parametrize("template", [{}, {"spec": []}, {"spec": {"template": {"spec": {"initContainers": [7]}}}}])
def test_a_template_without_a_registry_shows_none(template: Object) -> None:
    assert pulled_from(template_spec(template)) is None


def test_what_is_pulled_is_read_back_from_the_template(make_record: Make) -> None:
    adapter = {"name": "legal", "modelRef": "acme/wandb-registry-model/$(HOME) legal:production"}
    record = Record.parse(json.loads(json.dumps(make_record(serving={"adapters": [adapter]}))))
    assert len(record.digests) == 2
    pulled = Pulled.by(record.revision, [template_spec(record.template)])
    assert pulled.digests == record.digests
    assert pulled.registry == record.registry
    sizeless = {part.digest: part.model_copy(update={"size": 0}) for part in record.parts.values()}
    assert pulled.parts == sizeless


def test_a_record_is_a_controller_revision_that_belongs_to_the_model_deployment(written: Object, owner: Owner) -> None:
    assert (written["apiVersion"], written["kind"], written["revision"]) == ("apps/v1", "ControllerRevision", 7)
    assert written["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "modelsync.dev/v1alpha1",
            "kind": "ModelDeployment",
            "name": "chat",
            "uid": owner.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def test_a_deployment_comes_from_the_record_whatever_the_operator_renders_now(
    written: Object, make_record: Make
) -> None:
    record = Record.parse(written)
    make_record(OperatorSettings(puller_image="modelsync:9"))
    made = deployment(record, 3)
    assert made["spec"]["replicas"] == 3
    del made["spec"]["replicas"]
    assert made == written["data"]["deployment"]


def test_making_a_deployment_leaves_the_record_alone(written: Object) -> None:
    record = Record.parse(written)
    made = deployment(record, 3)
    made["metadata"]["resourceVersion"] = "9"
    made["spec"]["paused"] = True
    assert "resourceVersion" not in record.template["metadata"]
    assert not {"replicas", "paused"} & record.template["spec"].keys()


def test_a_deployment_never_takes_a_ready_pod_before_there_is_another(written: Object) -> None:
    spec = deployment(Record.parse(written), 2)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["revisionHistoryLimit"] == 0


def test_the_deployment_selects_its_own_pods(written: Object) -> None:
    made = deployment(Record.parse(written), 1)
    wanted = made["spec"]["selector"]["matchLabels"].items()
    assert wanted <= made["spec"]["template"]["metadata"]["labels"].items()


def test_the_fuse_secret_keeps_the_token_that_pods_know_only_by_its_hash(owner: Owner) -> None:
    secret = fuse_secret(owner, "v7-3fa9c1d2", "a-token")
    assert secret["metadata"]["name"] == "chat-v7-3fa9c1d2-fuse"
    assert secret["metadata"]["labels"]["modelsync.dev/fuse"] == "true"
    assert secret["data"] == {"token": "YS10b2tlbg=="}
    assert secret["immutable"] is True


def test_a_record_of_a_newer_operator_is_read_as_far_as_it_is_known(written: Object) -> None:
    before = Record.parse(written)
    written["data"]["inputs"]["serving"]["drafters"] = [{"name": "legal"}]
    written["data"]["inputs"]["serving"]["storage"]["share"] = True
    written["data"]["artifact"]["signature"] = "x"
    written["data"]["more"] = {}
    assert Record.parse(written) == before


def without(written: Object, *path: str) -> Object:
    at: Any = written
    for part in path[:-1]:
        at = at[part]
    del at[path[-1]]
    return written


@pytest.mark.parametrize(
    "path",
    [
        ("data",),
        ("data", "format"),
        ("data", "inputs"),
        ("data", "inputs", "serving", "image"),
        ("data", "inputs", "digests", "model"),
        ("data", "artifact", "digest"),
        ("data", "fuseSHA256"),
        ("data", "preStop"),
        ("data", "deployment"),
    ],
)
def test_a_broken_record_is_an_error_that_names_it(written: Object, path: tuple[str, ...]) -> None:
    name = written["metadata"]["name"]
    with pytest.raises(RecordError, match=f"ControllerRevision {name}") as error:
        Record.parse(without(written, *path))
    assert "\n" not in str(error.value)


def test_a_record_without_an_owner_belongs_to_the_name_in_its_label(written: Object, owner: Owner) -> None:
    orphan = without(written, "metadata", "ownerReferences")
    assert Record.parse(orphan).owner == Owner(owner.name, owner.namespace, uid="")
    with pytest.raises(RecordError, match="not a complete record"):
        Record.parse(without(orphan, "metadata", "labels"))


def test_a_deployment_has_the_owner_that_its_record_has_now(written: Object) -> None:
    written["metadata"]["ownerReferences"][0]["uid"] = "adopted-by"
    (reference,) = deployment(Record.parse(written), 1)["metadata"]["ownerReferences"]
    assert reference["uid"] == "adopted-by"


@pytest.mark.parametrize("data", [None, [], "x", {"format": 2}, {}])
def test_a_foreign_record_is_an_error(written: Object, data: Any) -> None:
    with pytest.raises(RecordError, match="this operator reads 1"):
        Record.parse(written | {"data": data})


def test_an_object_without_anything_is_an_error() -> None:
    with pytest.raises(RecordError):
        Record.parse({})


def test_a_record_under_another_name_is_an_error(written: Object) -> None:
    written["metadata"]["name"] = "chat-something"
    with pytest.raises(RecordError, match="not that of a revision of chat"):
        Record.parse(written)


def test_side_artifacts_are_pinned_and_read_back(make_record: Make) -> None:
    prompts = {"name": "prompts", "modelRef": "acme/prompt-library/support:production"}
    record = Record.parse(json.loads(json.dumps(make_record(serving={"artifacts": [prompts]}))))
    assert list(record.parts) == ["model", "artifact/prompts"]
    assert record.others["artifact/prompts"].ref == "acme/prompt-library/support:v2"
    assert record.digests == tuple(sorted(part.digest for part in record.parts.values()))


def test_a_record_of_an_operator_that_knew_no_side_artifacts_is_read(written: Object) -> None:
    assert "artifacts" not in written["data"]
    assert list(Record.parse(written).parts) == ["model"]


def other_digest(data: Object) -> None:
    data["inputs"]["digests"]["model"] = "ab" * 16


def other_artifact(data: Object) -> None:
    data["artifact"]["digest"] = "ab" * 16


def other_pull(data: Object) -> None:
    pull = data["deployment"]["spec"]["template"]["spec"]["initContainers"][0]
    pull["args"] = [f"--digest={'ab' * 16}" if each.startswith("--digest=") else each for each in pull["args"]]


def other_names(data: Object) -> None:
    other_digest(data)
    other_artifact(data)


@pytest.mark.parametrize("forge", [other_digest, other_artifact, other_pull, other_names])
def test_a_record_that_names_other_content_than_its_pods_pull_is_no_record(
    written: Object, forge: Callable[[Object], None]
) -> None:
    forge(written["data"])
    with pytest.raises(RecordError, match="do not name the same content"):
        Record.parse(written)


def test_a_record_of_thousands_of_artifacts_is_no_record(written: Object) -> None:
    written["data"]["artifacts"] = {f"adapter/a{n}": written["data"]["artifact"] for n in range(1000)}
    with pytest.raises(RecordError, match="more than 64 artifacts"):
        Record.parse(written)
