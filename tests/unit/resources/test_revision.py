"""A revision's name: what changes it, what does not, and that no new operator version changes it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelsync.api.parts import MODEL
from modelsync.api.serving import Serving
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.revision import Artifact, RevisionInputs, inputs_of, revision_name

FIXTURES = json.loads(Path(__file__).with_name("revision_fixtures.json").read_text(encoding="utf-8"))

# For each field of spec.serving: values with different meanings, the default first (`...`: not set).
MEANINGS: dict[str, list[Any]] = {
    "image": ["vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.31.0"],
    "args": [..., ["--max-model-len=1"], ["--max-model-len=2"], ["--a=1", "--b=1"], ["--b=1", "--a=1"]],
    "env": [
        ...,
        [{"name": "A", "value": "1"}],
        [{"name": "A", "value": "2"}],
        [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
        [{"name": "B", "value": "1"}, {"name": "A", "value": "1"}],
    ],
    "resources": [
        ...,
        {"limits": {"cpu": "1"}},
        {"limits": {"cpu": "2"}},
        {"requests": {"cpu": "1"}},
        {"limits": {"cpu": "1", "memory": "1Gi"}},
    ],
    "servedModelName": [..., "other", "another"],
    "shutdownTimeout": [..., "61s", "2m"],
    "scheduling": [
        ...,
        {"nodeSelector": {"gpu": "a100"}},
        {"nodeSelector": {"gpu": "h100"}},
        {"runtimeClassName": "nvidia"},
        {"tolerations": [{"operator": "Exists"}]},
        {
            "affinity": {
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
            }
        },
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}]
                }
            }
        },
    ],
    "podMetadata": [..., {"labels": {"team": "a"}}, {"labels": {"team": "b"}}, {"annotations": {"team": "a"}}],
    "serviceAccountName": [..., "one", "two"],
    "imagePullSecrets": [..., [{"name": "one"}], [{"name": "two"}]],
    "sharedMemory": [..., "3Gi", "0"],
    "adapters": [
        ...,
        [{"name": "legal", "modelRef": "acme/loras/legal:one"}],
        [{"name": "legal", "modelRef": "acme/loras/legal:two"}],
        [{"name": "law", "modelRef": "acme/loras/legal:one"}],
    ],
    "baseModelRef": [..., "acme/models/base:one", "acme/models/base:two"],
    "exposeBase": [..., True],
    "artifacts": [
        ...,
        [{"name": "prompts", "modelRef": "acme/prompts/support:one"}],
        [{"name": "prompts", "modelRef": "acme/prompts/support:two"}],
        [{"name": "templates", "modelRef": "acme/prompts/support:one"}],
        [
            {"name": "prompts", "modelRef": "acme/prompts/support:one"},
            {"name": "templates", "modelRef": "acme/prompts/support:one"},
        ],
    ],
    "storage": [
        ...,
        {"type": "EmptyDir", "size": "10Gi"},
        {"type": "EmptyDir", "size": "20Gi"},
        {"type": "PersistentVolumeClaim", "claimName": "one"},
        {"type": "PersistentVolumeClaim", "claimName": "two"},
        {"type": "PersistentVolumeClaim", "claimName": "two", "compileCache": True},
    ],
}

# Different spellings with the same meaning.
SAME: dict[str, list[tuple[Any, Any]]] = {
    "args": [(..., [])],
    "env": [(..., [])],
    "resources": [
        (..., {}),
        (..., {"limits": {}}),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}),
        ({"limits": {"nvidia.com/gpu": 1}}, {"limits": {"nvidia.com/gpu": "1"}}),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"memory": "1Gi", "cpu": "1"}}),
    ],
    "servedModelName": [(..., "chat")],
    "shutdownTimeout": [(..., "60s"), (..., "1m"), ("90s", "1m30s")],
    "scheduling": [(..., {}), (..., {"tolerations": []})],
    "podMetadata": [(..., {}), (..., {"labels": {}})],
    "imagePullSecrets": [(..., [])],
    "sharedMemory": [(..., "2Gi"), (..., "2048Mi"), ("1G", "1000M")],
    "artifacts": [
        (..., []),
        (
            [{"name": "a", "modelRef": "acme/p/s:one"}, {"name": "b", "modelRef": "acme/p/s:two"}],
            [{"name": "b", "modelRef": "acme/p/s:two"}, {"name": "a", "modelRef": "acme/p/s:one"}],
        ),
        # A different reference to the same content.
        ([{"name": "a", "modelRef": "acme/p/s:one"}], [{"name": "a", "modelRef": "acme/other/s:one"}]),
    ],
    "storage": [
        (..., {"type": "EmptyDir"}),
        (..., {"type": "EmptyDir", "compileCache": False}),
        (
            {"type": "PersistentVolumeClaim", "claimName": "one"},
            {"type": "PersistentVolumeClaim", "claimName": "one", "compileCache": False},
        ),
    ],
    "adapters": [
        (..., []),
        (
            [{"name": "a", "modelRef": "acme/p/s:one"}, {"name": "b", "modelRef": "acme/p/s:two"}],
            [{"name": "b", "modelRef": "acme/p/s:two"}, {"name": "a", "modelRef": "acme/p/s:one"}],
        ),
    ],
    "baseModelRef": [("acme/models/base:one", "acme/others/base:one")],
}

DIGEST = "d41d8cd98f00b204e9800998ecf8427e"


def serving(**fields: Any) -> dict[str, Any]:
    serving = {"image": MEANINGS["image"][0]} | {name: value for name, value in fields.items() if value is not ...}
    if serving.get("exposeBase") and not ({"adapters", "baseModelRef"} & serving.keys()):
        serving["adapters"] = [{"name": "one", "modelRef": "acme/loras/one:one"}]  # not valid without adapters
    return serving


def spec_of(spec_serving: dict[str, Any], **sections: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(
        {
            "modelRef": "acme/models/chat:production",
            "registry": {"baseURL": "https://w", "auth": {"secretKeyRef": {"name": "wandb", "key": "KEY"}}},
            "serving": spec_serving,
        }
        | sections
    )


def artifact_of(version: str = "v7", digest: str = DIGEST) -> Artifact:
    return Artifact(
        entity="acme", project="models", collection="chat", version=version, artifact_id="1", digest=digest, size=1
    )


def others_of(spec: ModelDeploymentSpec) -> dict[str, Artifact]:
    """As if every reference named a version with a digest derived from its alias."""
    return {
        key: artifact_of(digest=md5(ref.rpartition(":")[2].encode(), usedforsecurity=False).hexdigest())
        for key, ref in spec.references.items()
        if key != MODEL
    }


def name_of(
    spec: ModelDeploymentSpec, artifact: Artifact | None = None, settings: OperatorSettings | None = None
) -> str:
    artifact = artifact or artifact_of()
    return revision_name(inputs_of("chat", spec, artifact, settings or OperatorSettings(), [], others=others_of(spec)))


@pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture["name"] for fixture in FIXTURES])
def test_no_operator_ever_gives_another_name(fixture: dict[str, Any]) -> None:
    """A failure here means that an upgrade would restart every pod of every user."""
    spec = spec_of(fixture["serving"])
    artifact = artifact_of(fixture["version"], fixture["digest"])
    assert name_of(spec, artifact) == fixture["revision"]


def test_the_cases_here_cover_every_field_that_makes_a_pod() -> None:
    assert {field.alias for field in Serving.model_fields.values()} == set(MEANINGS)


def test_the_frozen_names_cover_every_field_that_makes_a_pod() -> None:
    assert {field for fixture in FIXTURES for field in fixture["serving"]} == set(MEANINGS)


@pytest.mark.parametrize("field", MEANINGS)
def test_every_meaning_of_a_field_has_a_name_of_its_own(field: str) -> None:
    found = [name_of(spec_of(serving(**{field: value}))) for value in MEANINGS[field]]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("field", "one", "other"), [(field, *pair) for field, pairs in SAME.items() for pair in pairs])
def test_another_way_to_write_the_same_changes_nothing(field: str, one: Any, other: Any) -> None:
    assert name_of(spec_of(serving(**{field: one}))) == name_of(spec_of(serving(**{field: other})))


CHOICES = st.fixed_dictionaries({field: st.integers(0, len(values) - 1) for field, values in MEANINGS.items()})
FIELDS = st.sampled_from(sorted(MEANINGS))


def chosen(choices: dict[str, int]) -> ModelDeploymentSpec:
    return spec_of(serving(**{field: MEANINGS[field][index] for field, index in choices.items()}))


@given(CHOICES, FIELDS, st.integers(1, 10))
def test_changing_any_field_changes_the_name_and_changing_it_back_restores_it(
    choices: dict[str, int], field: str, by: int
) -> None:
    count = len(MEANINGS[field])
    changed = choices | {field: (choices[field] + 1 + by % (count - 1)) % count}
    assert name_of(chosen(changed)) != name_of(chosen(choices))
    assert name_of(chosen(changed | {field: choices[field]})) == name_of(chosen(choices))


UNHASHED: list[tuple[str, Any]] = [
    ("replicas", 7),
    ("modelRef", "acme/models/chat:staging"),
    (
        "registry",
        {"baseURL": "https://other", "auth": {"secretKeyRef": {"name": "other", "key": "K"}}, "pollInterval": "5s"},
    ),
    ("hold", {"tags": ["legal"], "action": "Block"}),
    ("rollout", {"progressDeadline": "1h", "keepPrevious": {"replicas": 0, "duration": "5m"}}),
    ("traffic", {"gateway": {"parentRefs": [{"name": "models"}]}, "settle": "9s"}),
    ("suspend", True),
    ("revisionHistoryLimit", 3),
]


def test_every_other_field_of_the_spec_is_among_those_that_change_nothing() -> None:
    fields = {field.alias for field in ModelDeploymentSpec.model_fields.values()}
    assert fields - {"serving"} == {field for field, _ in UNHASHED}


@given(CHOICES, st.lists(st.sampled_from(UNHASHED), min_size=1, max_size=4))
def test_what_makes_no_pod_changes_nothing(choices: dict[str, int], others: list[tuple[str, Any]]) -> None:
    wire = chosen(choices).wire()
    assert name_of(ModelDeploymentSpec.model_validate(wire | dict(others))) == name_of(chosen(choices))


@given(CHOICES, st.randoms())
def test_the_order_of_keys_changes_nothing(choices: dict[str, int], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    wire = chosen(choices).wire()
    assert name_of(ModelDeploymentSpec.model_validate(shuffled(wire))) == name_of(chosen(choices))


def test_nothing_of_the_operators_own_is_in_a_name() -> None:
    other = OperatorSettings(
        puller_image="modelsync:9", allowed_args=("--trust-remote-code",), allowed_registries=("https://w",)
    )
    assert name_of(spec_of(serving()), settings=other) == name_of(spec_of(serving()))


def test_the_version_is_in_the_name_and_the_digest_is_hashed() -> None:
    spec = spec_of(serving())
    seven, eight, relinked = (
        name_of(spec, artifact_of("v7")),
        name_of(spec, artifact_of("v8", "0" * 32)),
        name_of(spec, artifact_of("v8")),
    )
    assert seven.startswith("v7-")
    assert seven[3:] != eight[3:]
    assert seven[3:] == relinked[3:]


def test_two_revisions_have_the_same_content_when_only_the_spec_differs() -> None:
    settings = OperatorSettings()

    def content(spec: ModelDeploymentSpec, artifact: Artifact) -> str:
        return inputs_of("chat", spec, artifact, settings, []).content

    assert content(spec_of(serving()), artifact_of()) == content(spec_of(serving(sharedMemory="3Gi")), artifact_of())
    assert content(spec_of(serving()), artifact_of()) != content(spec_of(serving()), artifact_of(digest="0" * 32))


@dataclass(frozen=True)
class Past:
    inputs: RevisionInputs
    created: datetime
    image_was_default: bool = True


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def image_of(spec_serving: dict[str, Any], records: list[Past], artifact: Artifact | None = None) -> str:
    newer_operator = OperatorSettings(serving_image="vllm/vllm-openai:v9.9.9")
    return inputs_of("chat", spec_of(spec_serving), artifact or artifact_of(), newer_operator, records).image


def past(
    image: str, *, age: timedelta = timedelta(), digest: str = DIGEST, was_default: bool = True, **fields: Any
) -> Past:
    inputs = inputs_of(
        "chat", spec_of(serving(**fields, image=image)), artifact_of(digest=digest), OperatorSettings(), []
    )
    return Past(inputs, NOW - age, was_default)


def test_a_new_default_image_does_not_touch_what_was_made_with_the_old_one() -> None:
    records = [past("vllm/vllm-openai:v0.32.0")]
    assert image_of({}, records) == "vllm/vllm-openai:v0.32.0"


def test_of_several_records_the_newest_decides_the_image() -> None:
    records = [
        past("old:v1", age=timedelta(days=2)),
        past("new:v1", age=timedelta(days=1)),
        past("older:v1", age=timedelta(9)),
    ]
    assert image_of({}, records) == "new:v1"


def test_an_image_that_was_tried_and_taken_out_again_does_not_stay() -> None:
    day = timedelta(days=1)
    tried = past("tried:v1", was_default=False)
    assert image_of({}, [past("vllm/vllm-openai:v0.32.0", age=day), tried]) == "vllm/vllm-openai:v0.32.0"
    default = past("vllm/vllm-openai:v9.9.9", age=day, was_default=False)
    assert image_of({}, [default, tried]) == "vllm/vllm-openai:v9.9.9", (
        "also if the spec set the default explicitly first"
    )
    assert image_of({}, [tried]) == "tried:v1", "and removing it does not restart serving pods"


def test_a_new_version_or_another_spec_takes_the_new_default_image() -> None:
    records = [past("vllm/vllm-openai:v0.32.0")]
    assert image_of({}, records, artifact_of("v8", "0" * 32)) == "vllm/vllm-openai:v9.9.9"
    assert image_of({"sharedMemory": "3Gi"}, records) == "vllm/vllm-openai:v9.9.9"
    assert image_of({"sharedMemory": "2048Mi"}, records) == "vllm/vllm-openai:v0.32.0"


def test_an_image_in_the_spec_always_counts() -> None:
    assert image_of({"image": "mine:v1"}, [past("vllm/vllm-openai:v0.32.0")]) == "mine:v1"


@pytest.mark.parametrize(
    "broken",
    [
        {"digests": {"model": "../../etc"}},
        {"digests": {"model": "ABCDEF0123456789"}},
        {"digests": {}},
        {"version": "latest"},
        {"version": "v1234567"},
        {"serving": {}},
    ],
)
def test_what_cannot_be_part_of_a_path_or_name_is_refused(broken: dict[str, Any]) -> None:
    fine = {"version": "v7", "digests": {"model": DIGEST}, "serving": {"image": "a:b"}}
    RevisionInputs.model_validate(fine)
    with pytest.raises(ValidationError):
        RevisionInputs.model_validate(fine | broken)


def test_inputs_read_back_what_they_write(make_spec: Callable[..., ModelDeploymentSpec], artifact: Artifact) -> None:
    spec = make_spec(serving=serving(resources={"limits": {"nvidia.com/gpu": 1}}, shutdownTimeout="90s"))
    inputs = inputs_of("chat", spec, artifact, OperatorSettings(), [])
    again = RevisionInputs.model_validate(json.loads(json.dumps(inputs.wire())))
    assert again == inputs
    assert revision_name(again) == revision_name(inputs)
