"""The administrator's file."""

from pathlib import Path

import pytest

from modelsync.api.settings import OperatorSettings, SettingsError, load, same_server


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_the_file_in_the_spelling_of_kubernetes(tmp_path: Path) -> None:
    settings = load(
        written(
            tmp_path,
            "allowedRegistries: ['https://wandb.example.com/']\nhold: {tags: [legal], action: Block}\n"
            "pullerImage: corp/modelsync:1\n",
        )
    )
    assert settings.allowed_registries == ("https://wandb.example.com/",)
    assert (settings.hold.tags, settings.hold.action) == (("legal",), "Block")
    assert settings.puller_image == "corp/modelsync:1"
    assert settings.serving_image == "vllm/vllm-openai:v0.32.0"


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing yet\n")) == OperatorSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allowedRegistry: []", "allowedRegistry: is not a known field; remove it or check its spelling"),
        (
            "allowedRegistries: [wandb.example.com]",
            r"allowedRegistries\[0\]: 'wandb.example.com' is not the URL of a W&B server",
        ),
        (
            "allowedImages: ['corp/vllm:v1']",
            r"allowedImages\[0\]: 'corp/vllm:v1' is not a valid image repository; write it without tag",
        ),
        ("allowedEnv: ['HTTPS_PROXY=x']", r"allowedEnv\[0\]: 'HTTPS_PROXY=x' is not a valid environment variable name"),
        (
            "allowedArgs: [trust-remote-code]",
            r"allowedArgs\[0\]: 'trust-remote-code' is not a valid vLLM flag; write it",
        ),
        ("hold: {maxStaleness: 30s}", "hold.maxStaleness: 30s must be a duration from 1m to 24h, such as 1m30s"),
        ("hold: {maxStaleness: 25h}", "hold.maxStaleness: 25h must be a duration from 1m to 24h"),
        ("hold: {maxStaleness: 300}", "hold.maxStaleness: 300 must be a duration from 1m to 24h.*write it as a string"),
        ("hold: {onStale: Ignore}", "hold.onStale: 'Ignore' is not valid: input should be 'Serve' or 'Block'"),
        ("hold: {action: Ignore}", "hold.action: 'Ignore' is not valid: input should be 'Fallback' or 'Block'"),
        (
            "registry: {baseURL: 'https://w.example'}",
            "registry.auth: is required",
        ),
        (
            "registry: {baseURL: w, auth: {secretKeyRef: {name: a, key: b}}}",
            "registry.baseURL: 'w' must be the URL of a W&B server",
        ),
        (
            "registry: {baseURL: 'https://w.example', auth: {secretKeyRef: {name: a, key: b}}, pollInterval: 2h}",
            "registry.pollInterval: 2h must be a duration from 1s to 1h",
        ),
        ("- a list", "must contain a mapping of settings"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_mistake_names_the_file_and_the_setting(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        load(written(tmp_path, text))
    assert "settings.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "repository", ["vllm/vllm-openai", "localhost:5000/ml/*", "registry.example.com/*", "*", "vllm"]
)
def test_repositories_may_have_a_registry_with_a_port_and_stars(tmp_path: Path, repository: str) -> None:
    assert load(written(tmp_path, f"allowedImages: ['{repository}']")).allowed_images == (repository,)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://api.wandb.ai", "HTTPS://API.wandb.ai/", True),
        ("https://api.wandb.ai", "https://api.forge.coreweave.com", True),
        ("https://api.wandb.ai", "http://api.wandb.ai", False),
        ("https://api.wandb.ai", "https://api.wandb.ai.example.com", False),
        ("https://api.wandb.ai:8443", "https://api.forge.coreweave.com", False),
        ("http://[1]", "http://[1]", True),
        ("http://[1]", "https://api.wandb.ai", False),
    ],
)
def test_a_server_is_the_same_under_each_of_its_names(one: str, other: str, same: bool) -> None:
    assert same_server(one, other) is same
    assert same_server(other, one) is same
