"""Images and the allow-list."""

import pytest

from modelsync.policy.images import is_allowed, repository, tag


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("vllm", "docker.io/library/vllm"),
        ("vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai"),
        ("docker.io/vllm/vllm-openai@sha256:01", "docker.io/vllm/vllm-openai"),
        ("registry.example.com/a/b:v1@sha256:01", "registry.example.com/a/b"),
        ("localhost/a:v1", "localhost/a"),
        ("localhost:5000/a:v1", "localhost:5000/a"),
    ],
)
def test_an_image_has_one_full_repository(image: str, full: str) -> None:
    assert repository(image) == full


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a:v0.32.0", "v0.32.0"),
        ("a:v1@sha256:01", "v1"),
        ("a", None),
        ("localhost:5000/a", None),
        ("a@sha256:01", None),
    ],
)
def test_a_tag_is_distinguished_from_a_port_and_a_digest(image: str, expected: str | None) -> None:
    assert tag(image) == expected


def test_a_star_matches_only_below_its_prefix() -> None:
    assert is_allowed("registry.example.com/ml/team/vllm:v1", ["registry.example.com/ml/*"])
    assert not is_allowed("registry.example.com/other/vllm:v1", ["registry.example.com/ml/*"])
    assert not is_allowed("registry.example.com.evil.example/ml/vllm", ["registry.example.com/ml/*"])
    assert not is_allowed("evil.example/registry.example.com/ml/vllm", ["registry.example.com/ml/*"])


def test_a_star_alone_is_everything_and_an_empty_list_nothing() -> None:
    assert is_allowed("evil.example/vllm", ["*"])
    assert not is_allowed("vllm/vllm-openai", [])
