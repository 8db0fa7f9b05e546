"""The operator accepts every example of a ModelDeployment in the documentation."""

from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import yaml

from docs_runner.pages import Block, Page
from docs_runner.words import has_field
from modelsync.api import names
from modelsync.api.crd import crd
from modelsync.api.problems import SpecError
from modelsync.api.settings import OperatorSettings, SettingsError, parse
from modelsync.policy.validation import problems, read_spec

ROOT = Path(__file__).resolve().parents[3]
SERVERS = ["https://api.wandb.ai", "https://wandb.example.com", "https://wandb.corp.example"]
SETTINGS = OperatorSettings.model_validate({"allowedRegistries": SERVERS})
READER = {
    "WANDB_BASE_URL": "https://api.wandb.ai",
    "MODEL": "acme/wandb-registry-model/Chat LLM",
    "HOST": "chat.example.com",
    "NAMESPACE": "prod",
}
"""The variables that a reader exports first."""
LEFT_OUT = yaml.safe_load((ROOT / "samples" / "minimal.yaml").read_text())["spec"] | {
    "traffic": {"gateway": {"parentRefs": [{"name": "models"}]}}
}
"""The rest of the spec for examples that show only a part."""
VALUES = yaml.safe_load((ROOT / "helm" / "modelsync" / "values.yaml").read_text())
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SETTING_NAMES = {field.alias for field in OperatorSettings.model_fields.values()}


def test_every_yaml_block_can_be_read(all_pages: list[Page]) -> None:
    list(documents(all_pages))


def test_every_example_of_a_model_deployment_is_taken(user_pages: list[Page]) -> None:
    found = [
        f"{page.path.relative_to(ROOT)}:{block.line}: {problem}"
        for page in user_pages
        for block in page.blocks
        for spec in specs(block)
        for problem in wrong(spec)
    ]
    assert not found, "\n".join(found)


def test_the_quickstarts_sample_is_what_the_quickstart_applies(all_pages: list[Page]) -> None:
    """So `make test-docs`, which runs the quickstart, deploys the sample on a real cluster."""
    quickstart = next(page for page in all_pages if page.path.name == "quickstart.md")
    (applied,) = [spec for block in quickstart.blocks for spec in specs(block)]
    assert yaml.safe_load((ROOT / "samples" / "quickstart.yaml").read_text())["spec"] == applied


def test_a_missing_field_is_reported() -> None:
    block = Block(("yaml",), "spec:\n  hold: {relase: Approved}\n", 3)
    (spec,) = specs(block)
    assert "spec.hold.relase" in "".join(wrong(spec))


def test_an_example_within_a_command_is_read_too() -> None:
    text = "$ kubectl apply -f - <<EOF\nkind: ModelDeployment\nspec:\n  replicas: -1\nEOF\nmodeldeployment created\n"
    (spec,) = specs(Block(("console",), text, 3))
    assert "spec.replicas" in "".join(wrong(spec))


def documents(pages: list[Page]) -> Iterator[tuple[str, Any]]:
    """Page and line of each YAML block, with each of its documents."""
    for page in pages:
        for block in page.blocks:
            if block.language == "yaml":
                for document in yaml.safe_load_all(block.text):
                    yield f"{page.path.relative_to(ROOT)}:{block.line}", document


def specs(block: Block) -> Iterator[dict[str, Any]]:
    """The specs of ModelDeployments in a block.

    `# …` in a spec marks an omission, and a document with only `spec` is a part of a ModelDeployment.
    """
    text = block.text
    if block.language in ("console", "sh"):
        _, _, text = text.partition("<<EOF\n")
        text = Template(text.partition("\nEOF\n")[0]).safe_substitute(READER)
    elif block.language != "yaml":
        return
    for document in yaml.safe_load_all(text) if text else ():
        if isinstance(document, dict) and (document.get("kind") == names.KIND or set(document) == {"spec"}):
            partial = "# …" in text or "kind" not in document
            yield merged(LEFT_OUT, document["spec"]) if partial else document["spec"]


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` merged into it, mapping by mapping."""
    found = dict(base)
    for key, value in over.items():
        inner = base.get(key)
        found[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def wrong(spec: dict[str, Any]) -> list[str]:
    """The operator's errors for a spec."""
    try:
        return [str(problem) for problem in problems(read_spec({"spec": spec}), SETTINGS)]
    except SpecError as error:
        return [str(error)]


def test_the_settings_of_other_tools_name_existing_kinds_and_fields(user_pages: list[Page]) -> None:
    """Health checks of Flux, differences for Argo CD to ignore, targets of autoscalers."""
    found = [f"{where}: {problem}" for where, document in documents(user_pages) for problem in misnamed(document)]
    assert not found, "\n".join(found)


def test_a_missing_field_or_group_of_ours_is_reported() -> None:
    ignored = {"group": "modelsync.dev", "kind": "ModelDeployment", "jsonPointers": ["/spec/replica", "/spec/replicas"]}
    checked = {"apiVersion": "modelsync.dev/v1", "kind": "ModelDeployment", "name": "chat"}
    assert list(misnamed({"spec": {"ignoreDifferences": [ignored], "healthChecks": [checked]}})) == [
        "/spec/replica is not a field of a ModelDeployment",
        "modelsync.dev/v1 is not modelsync.dev/v1alpha1",
    ]


def misnamed(document: Any) -> Iterator[str]:
    """The errors in a document's references to ModelDeployments, at any depth."""
    if isinstance(document, list):
        for item in document:
            yield from misnamed(item)
    elif isinstance(document, dict):
        if document.get("kind") == names.KIND:
            version = document.get("apiVersion", names.API_VERSION)
            if version != names.API_VERSION:
                yield f"{version} is not {names.API_VERSION}"
            if document.get("group", names.GROUP) != names.GROUP:
                yield f"{document['group']} is not {names.GROUP}"
            for pointer in document.get("jsonPointers", ()):
                if not has_field(SCHEMA, pointer.strip("/").replace("/", ".")):
                    yield f"{pointer} is not a field of a {names.KIND}"
        for value in document.values():
            yield from misnamed(value)


def test_every_example_of_values_and_settings_is_taken(user_pages: list[Page]) -> None:
    found = [
        f"{where}: {problem}"
        for where, document in documents(user_pages)
        if isinstance(document, dict)
        for problem in wrong_values(document)
    ]
    assert not found, "\n".join(found)


def test_a_missing_value_or_setting_is_reported() -> None:
    assert wrong_values({"webhook": {"tls": {"secret": "x"}}}) == ["webhook.tls.secret is not a value of the chart"]
    assert "allowedImagess" in "".join(wrong_values({"allowedRegistries": [], "allowedImagess": []}))
    assert "allowedImagess" in "".join(wrong_values({"settings": {"allowedImagess": []}}))
    assert wrong_values({"groups": []}) == []


def wrong_values(document: dict[str, Any]) -> list[str]:
    """The errors in an example of the chart's values or of the administrator's settings; none for other documents."""
    if "kind" in document or "spec" in document:
        return []
    if not SETTING_NAMES.isdisjoint(document):
        return wrong_settings(document)
    if VALUES.keys().isdisjoint(document):
        return []
    return [*unknown_values(document, VALUES, ""), *wrong_settings(document.get("settings") or {})]


def wrong_settings(settings: dict[str, Any]) -> list[str]:
    """The operator's errors for its settings."""
    try:
        parse(settings)
    except SettingsError as error:
        return [str(error)]
    return []


def unknown_values(given: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of values that the chart does not have; anything is allowed below an empty mapping of the chart."""
    for key, value in given.items():
        if key not in known:
            yield f"{path}{key} is not a value of the chart"
        elif isinstance(value, dict) and known[key]:
            yield from unknown_values(value, known[key], f"{path}{key}.")
