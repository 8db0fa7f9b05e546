"""Every example of a ModelDeployment in the documentation is one that the operator takes."""

from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import yaml

from docs_runner.pages import Block, Page
from modelsync.api import names
from modelsync.api.settings import OperatorSettings
from modelsync.api.validation import SpecError, problems, read_spec

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


def test_every_yaml_block_can_be_read(all_pages: list[Page]) -> None:
    for page in all_pages:
        for block in page.blocks:
            if block.language == "yaml":
                list(yaml.safe_load_all(block.text))


def test_every_example_of_a_model_deployment_is_taken(user_pages: list[Page]) -> None:
    found = [
        f"{page.path.relative_to(ROOT)}:{block.line}: {problem}"
        for page in user_pages
        for block in page.blocks
        for spec in specs(block)
        for problem in wrong(spec)
    ]
    assert not found, "\n".join(found)


def test_a_field_that_is_not_there_is_told() -> None:
    block = Block(("yaml",), "spec:\n  hold: {relase: Approved}\n", 3)
    (spec,) = specs(block)
    assert "spec.hold.relase" in "".join(wrong(spec))


def test_an_example_within_a_command_is_read_too() -> None:
    text = "$ kubectl apply -f - <<EOF\nkind: ModelDeployment\nspec:\n  replicas: -1\nEOF\nmodeldeployment created\n"
    (spec,) = specs(Block(("console",), text, 3))
    assert "spec.replicas" in "".join(wrong(spec))


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
