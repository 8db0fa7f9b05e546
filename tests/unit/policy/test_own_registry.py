"""With the operator's own credential, a tenant reads only what the administrator lists for the namespace."""

from typing import Any

import pytest

from modelsync.api.settings import OperatorSettings, SettingsError, parse
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy.effective import own_registry

SERVER = "https://wandb.example.com"
ALIAS_OF_IT = "https://WANDB.example.com/"


def registry(url: str = SERVER, name: str = "wandb") -> dict[str, Any]:
    return {"baseURL": url, "auth": {"secretKeyRef": {"name": name, "key": "WANDB_API_KEY"}}}


def settings(*rules: dict[str, Any], default: bool = True, own: str = SERVER) -> OperatorSettings:
    raw: dict[str, Any] = {"registries": [{**registry(own, "operators"), "resolveFor": list(rules)}]}
    return parse(raw | ({"registry": registry()} if default else {}))


def spec(*references: str, **parts: Any) -> ModelDeploymentSpec:
    model, *adapters = references or ("acme/models/chat:production",)
    serving = {"adapters": [{"name": f"a{n}", "modelRef": each} for n, each in enumerate(adapters)]}
    return ModelDeploymentSpec.model_validate({"modelRef": model, "serving": serving, **parts})


TEAM = {"namespaces": ["team-a"], "projects": ["acme/models"]}


def test_what_is_listed_for_the_namespace_is_resolved() -> None:
    found = own_registry(spec(), "team-a", settings(TEAM))
    assert found is not None
    assert found.auth.secret_key_ref.name == "operators"


def test_the_server_may_be_written_another_way() -> None:
    assert own_registry(spec(), "team-a", settings(TEAM, own=ALIAS_OF_IT)) is not None


@pytest.mark.parametrize(
    ("namespace", "references", "rules"),
    [
        ("team-b", (), [TEAM]),
        ("team-a", (), []),
        ("team-a", ("acme/secret/chat:production",), [TEAM]),
        ("team-a", ("other/models/chat:production",), [TEAM]),
        ("team-a", ("acme/models/chat:production", "acme/secret/legal:production"), [TEAM]),
        ("team-a", ("acme/models2/chat:production",), [TEAM]),
        ("team-a", ("acme/secret/chat:production",), [TEAM, {"namespaces": ["team-b"], "projects": ["acme/*"]}]),
        ("team-a", ("acme/wandb-registry-/chat:production",), [TEAM]),
    ],
    ids=[
        "another namespace",
        "no list",
        "another project",
        "another entity",
        "an adapter of another project",
        "a project that only starts so",
        "listed for others",
        "no reference",
    ],
)
def test_what_is_not_listed_is_resolved_with_the_tenants_key(
    namespace: str, references: tuple[str, ...], rules: list[dict[str, Any]]
) -> None:
    assert own_registry(spec(*references), namespace, settings(*rules)) is None


def test_wildcards_match() -> None:
    rule = {"namespaces": ["team-*"], "projects": ["acme/*"]}
    assert own_registry(spec("acme/anything/chat:v1"), "team-z", settings(rule)) is not None


def test_a_registry_of_its_own_is_never_mixed_with_the_operators_credential() -> None:
    assert own_registry(spec(registry=registry()), "team-a", settings(TEAM)) is None


def test_without_a_default_registry_there_is_nothing_to_pull_with() -> None:
    assert own_registry(spec(), "team-a", settings(TEAM, default=False)) is None


@pytest.mark.parametrize(
    "rule",
    [
        {"namespaces": [], "projects": ["acme/*"]},
        {"namespaces": ["team-a"], "projects": ["acme"]},
        {"namespaces": ["Team"], "projects": ["acme/*"]},
        {"namespaces": ["team-a"], "projects": ["acme/[a-z]"]},
    ],
)
def test_a_list_that_is_not_valid_is_an_error_that_names_it(rule: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"registries\[0\]\.resolveFor\[0\]"):
        settings(rule)
