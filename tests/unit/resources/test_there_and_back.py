"""Changing any field of `serving` or `traffic` and changing it back gives the original revision and children.

The specs are generated from the CRD's schema, so that new fields are covered automatically.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from modelsync.api.crd import crd
from modelsync.api.parts import MODEL
from modelsync.api.problems import SpecError
from modelsync.api.routing import Routing
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.validation import problems, read_spec
from modelsync.resources.children import deployment, plain_service, revision_service
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record, record
from modelsync.resources.revision import Artifact, inputs_of, revision_name
from modelsync.resources.route import http_route

pytestmark = pytest.mark.slow

CRD = crd()
SETTINGS = OperatorSettings(allowed_registries=("https://w",), allowed_images=("*",), puller_image="modelsync:1")
OWNER = Owner(name="chat", namespace="prod", uid="8c2c1a52-0000-4000-8000-000000000001")
ARTIFACT = Artifact(
    entity="acme", project="models", collection="chat", version="v7", artifact_id="QQ==", digest="0" * 32, size=1
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINE: dict[str, Any] = {
    "modelRef": "acme/models/chat:production",
    "registry": {"baseURL": "https://w", "auth": {"secretKeyRef": {"name": "w", "key": "k"}}},
}

# Fields whose values a policy table decides, not the schema: a few allowed values of each.
KNOWN: dict[str, SearchStrategy[Any]] = {
    "serving.image": st.sampled_from(["vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.31.0", "mine/vllm:v1"]),
    "serving.args[]": st.sampled_from(["--max-model-len=8192", "--max-num-seqs=4", "--enable-prefix-caching"]),
    "serving.env[].name": st.sampled_from(["TZ", "VLLM_LOGGING_LEVEL", "VLLM_SKIP_P2P_CHECK"]),
    "serving.resources.limits": st.dictionaries(
        st.sampled_from(["cpu", "memory"]), st.sampled_from(["5", "6Gi"]), max_size=2
    ),
    "serving.resources.requests": st.dictionaries(
        st.sampled_from(["cpu", "memory"]), st.sampled_from(["1", "2"]), max_size=2
    ),
    "serving.adapters[].name": st.sampled_from(["legal", "acme/medical"]),
    "serving.adapters[].modelRef": st.sampled_from(["acme/loras/a:one", "acme/loras/b:v3"]),
    "serving.baseModelRef": st.sampled_from(["acme/models/base:one", "acme/models/base:v3"]),
    "serving.artifacts[].modelRef": st.sampled_from(["acme/prompts/a:one", "acme/prompts/b:one", "acme/p/c d:v2"]),
    "serving.storage.type": st.sampled_from(["EmptyDir", "EmptyDir", "PersistentVolumeClaim"]),
}
DURATIONS = st.sampled_from(["0s", "1s", "5s", "6s", "10s", "1m30s", "1h"])
QUANTITIES = st.sampled_from(["1", "1.5", "500m", "1Gi", "1024Mi", 3])


@cache
def schema_of(path: str) -> dict[str, Any]:
    (version,) = CRD["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path.split("."):
        found = found["properties"][name]
    return found


def values(schema: Mapping[str, Any], path: str) -> SearchStrategy[Any]:
    """Values that the schema allows. Callers skip those that CEL and the policy reject."""
    if path in KNOWN:
        return KNOWN[path]
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return QUANTITIES
    if any("duration(self)" in rule for rule in rules):
        return DURATIONS
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "integer":
        least = schema.get("minimum", 0)
        return st.integers(least, min(schema.get("maximum", least + 3), least + 3))
    if schema["type"] == "string":
        patterns = [schema["pattern"]] if "pattern" in schema else []
        patterns += [found[1] for rule in rules if (found := re.search(r"self\.matches\(r'(.*?)'\)", rule))]
        text = st.from_regex(patterns[0], fullmatch=True) if patterns else st.sampled_from(["a", "b"])
        return text.filter(lambda each: len(each) <= min(schema.get("maxLength", 40), 40) and each.isascii())
    if schema["type"] == "array":
        return st.lists(values(schema["items"], f"{path}[]"), min_size=schema.get("minItems", 0), max_size=2)
    if "additionalProperties" in schema:
        keys = st.sampled_from(["team", "acme.dev/x"])
        return st.dictionaries(keys, values(schema["additionalProperties"], f"{path}[*]"), max_size=2)
    fields = {name: values(field, f"{path}.{name}") for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


def fields_of(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Every nested field, except those inside lists, which are changed with their list."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields_of(field, f"{path}.{name}")


FIELDS = [path for root in ("serving", "traffic") for path in fields_of(schema_of(root), root)]
# Kubernetes' own types with few kinds of values: changed only as a whole.
FIELDS = [path for path in FIELDS if not re.match(r"serving\.scheduling\.(affinity|topologySpreadConstraints)\.", path)]


def read(spec: dict[str, Any]) -> ModelDeploymentSpec | None:
    """The spec, if it is valid."""
    try:
        found = read_spec({"spec": spec})
    except SpecError:
        return None
    return None if problems(found, SETTINGS) else found


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field set to the value, and with the fields that this requires; None removes it."""
    result = deepcopy(spec)
    at = result
    *above, last = path.split(".")
    for depth, name in enumerate(above):
        schema = schema_of(".".join(above[: depth + 1]))
        needed: dict[str, Any] = {"type": "EmptyDir"} if name == "storage" else {}
        needed = {"parentRefs": [{"name": "models"}]} if name == "gateway" else needed
        if not isinstance(at.get(name), dict):
            assert schema["type"] == "object"
            at[name] = needed
        at = at[name]
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value
    if path == "serving.exposeBase" and value:
        at.setdefault("baseModelRef", "acme/models/base:one")
    if path == "serving.storage.type":
        at.pop("size", None)
    if path.startswith("serving.storage.") and last in ("claimName", "compileCache") and value:
        at["type"] = "PersistentVolumeClaim"
        at.setdefault("claimName", "models")
        at.pop("size", None)
    elif path == "serving.storage.type" and value == "PersistentVolumeClaim":
        at.setdefault("claimName", "models")
    elif path.startswith("serving.storage.") and at.get("type") == "EmptyDir":
        at.pop("claimName", None)
        at.pop("compileCache", None)
    return result


def artifact_of(ref: str) -> Artifact:
    """The artifact of every reference other than the model's."""
    digest = hashlib.md5(ref.encode(), usedforsecurity=False).hexdigest()
    return ARTIFACT.model_copy(update={"collection": "other", "artifact_id": ref, "digest": digest})


class World:
    """The records that the operator writes for these specs, in order."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.live: dict[str, Object] = {}

    def apply(self, spec: ModelDeploymentSpec) -> tuple[str, list[Object]]:
        """The revision for the spec, and its children."""
        others = {key: artifact_of(ref) for key, ref in spec.references.items() if key != MODEL}
        inputs = inputs_of(OWNER.name, spec, ARTIFACT, SETTINGS, self.records.values(), others=others)
        name = revision_name(inputs)
        if name not in self.records:
            live = record(OWNER, inputs, ARTIFACT, spec, SETTINGS, fuse_sha256="5f" * 32, others=others)
            created = NOW + timedelta(hours=len(self.records))
            live["metadata"]["creationTimestamp"] = created.isoformat().replace("+00:00", "Z")
            self.records[name] = Record.parse(live)
        found = self.records[name]
        children = [deployment(found, 2), revision_service(OWNER, name), plain_service(OWNER, name)]
        if spec.traffic.gateway is not None:
            children.append(http_route(OWNER, spec.traffic, Routing(((name, 100),))))
        return name, deepcopy(children)


@pytest.mark.parametrize("path", FIELDS)
def test_changed_and_changed_back_gives_the_same_revision_and_children(path: str) -> None:
    seen: list[bool] = []

    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(data=st.data())
    def there_and_back(data: DataObject) -> None:
        root = path.partition(".")[0]
        around = {root: data.draw(values(schema_of(root), root))} if data.draw(st.booleans()) else {}
        value = data.draw(st.none() | values(schema_of(path), path))
        before = FINE | around
        first = read(before) or read(before := dict(FINE))
        second = read(changed(before, path, value))
        assume(first is not None and second is not None and first != second)
        assert first is not None and second is not None  # noqa: PT018 for the type checker
        world = World()
        asked = world.apply(first)
        between = world.apply(second)
        assert world.apply(first) == asked
        assert world.apply(second) == between
        seen.append(True)

    there_and_back()
    assert seen, f"no value for spec.{path} was valid: add some to KNOWN"


def test_the_fields_are_those_of_the_schema() -> None:
    assert {"serving.image", "serving.storage.claimName", "traffic.settle", "traffic.gateway.hostnames"} <= set(FIELDS)
    assert len(FIELDS) >= 30
