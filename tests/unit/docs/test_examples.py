"""Every example of a ModelDeployment in the documentation is one that the operator takes."""

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
"""What a reader exports before anything."""
LEFT_OUT = yaml.safe_load((ROOT / "samples" / "minimal.yaml").read_text())["spec"] | {
    "traffic": {"gateway": {"parentRefs": [{"name": "models"}]}}
}
"""What an example that shows only a part is taken to say besides."""
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
    """And so the sample is served by a real cluster whenever the quickstart is typed by `make test-docs`."""
    quickstart = next(page for page in all_pages if page.path.name == "quickstart.md")
    (applied,) = [spec for block in quickstart.blocks for spec in specs(block)]
    assert yaml.safe_load((ROOT / "samples" / "quickstart.yaml").read_text())["spec"] == applied


def test_a_field_that_is_not_there_is_told() -> None:
    block = Block(("yaml",), "spec:\n  hold: {relase: Approved}\n", 3)
    (spec,) = specs(block)
    assert "spec.hold.relase" in "".join(wrong(spec))


def test_an_example_within_a_command_is_read_too() -> None:
    text = "$ kubectl apply -f - <<EOF\nkind: ModelDeployment\nspec:\n  replicas: -1\nEOF\nmodeldeployment created\n"
    (spec,) = specs(Block(("console",), text, 3))
    assert "spec.replicas" in "".join(wrong(spec))


def documents(pages: list[Page]) -> Iterator[tuple[str, Any]]:
    """Page and line of each YAML block, with each document in it."""
    for page in pages:
        for block in page.blocks:
            if block.language == "yaml":
                for document in yaml.safe_load_all(block.text):
                    yield f"{page.path.relative_to(ROOT)}:{block.line}", document


def specs(block: Block) -> Iterator[dict[str, Any]]:
    """The specs of ModelDeployments in a block.

    `# …` in a spec stands for what is left out, and a document of nothing but `spec` is a part of one.
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
    """`over` laid over `base`, mapping by mapping."""
    found = dict(base)
    for key, value in over.items():
        inner = base.get(key)
        found[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def wrong(spec: dict[str, Any]) -> list[str]:
    """What the operator would say against a spec."""
    try:
        return [str(problem) for problem in problems(read_spec({"spec": spec}), SETTINGS)]
    except SpecError as error:
        return [str(error)]


def test_what_other_tools_are_told_of_our_objects_names_them_and_their_fields(user_pages: list[Page]) -> None:
    """Health checks of Flux, differences that Argo CD is to ignore, targets of autoscalers."""
    found = [f"{where}: {problem}" for where, document in documents(user_pages) for problem in misnamed(document)]
    assert not found, "\n".join(found)


def test_a_field_or_a_group_of_ours_that_is_not_there_is_told() -> None:
    ignored = {"group": "modelsync.dev", "kind": "ModelDeployment", "jsonPointers": ["/spec/replica", "/spec/replicas"]}
    checked = {"apiVersion": "modelsync.dev/v1", "kind": "ModelDeployment", "name": "chat"}
    assert list(misnamed({"spec": {"ignoreDifferences": [ignored], "healthChecks": [checked]}})) == [
        "/spec/replica is no field of a ModelDeployment",
        "modelsync.dev/v1 is not modelsync.dev/v1alpha1",
    ]


def misnamed(document: Any) -> Iterator[str]:
    """What is wrong with how a document refers to ModelDeployments, wherever in it."""
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
                    yield f"{pointer} is no field of a {names.KIND}"
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


def test_a_value_or_a_setting_that_is_not_there_is_told() -> None:
    assert wrong_values({"webhook": {"tls": {"secret": "x"}}}) == ["webhook.tls.secret is no value of the chart"]
    assert "allowedImagess" in "".join(wrong_values({"allowedRegistries": [], "allowedImagess": []}))
    assert "allowedImagess" in "".join(wrong_values({"settings": {"allowedImagess": []}}))
    assert wrong_values({"groups": []}) == []


def wrong_values(document: dict[str, Any]) -> list[str]:
    """What is wrong with an example of the chart's values or of the administrator's settings; nothing with others."""
    if "kind" in document or "spec" in document:
        return []
    if not SETTING_NAMES.isdisjoint(document):
        return wrong_settings(document)
    if VALUES.keys().isdisjoint(document):
        return []
    return [*unknown_values(document, VALUES, ""), *wrong_settings(document.get("settings") or {})]


def wrong_settings(settings: dict[str, Any]) -> list[str]:
    """What the operator would say against its settings."""
    try:
        parse(settings)
    except SettingsError as error:
        return [str(error)]
    return []


def unknown_values(given: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of values that the chart does not have; below an empty mapping of the chart's anything may stand."""
    for key, value in given.items():
        if key not in known:
            yield f"{path}{key} is no value of the chart"
        elif isinstance(value, dict) and known[key]:
            yield from unknown_values(value, known[key], f"{path}{key}.")
