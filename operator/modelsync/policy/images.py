"""Reads the repository and the tag of container image references."""

from collections.abc import Collection
from fnmatch import fnmatchcase


def repository(image: str) -> str:
    """The full repository, without tag and digest: `vllm/vllm-openai:v1` is `docker.io/vllm/vllm-openai`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    first, slash, _ = name.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:*")):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def is_allowed(image: str, patterns: Collection[str]) -> bool:
    """Whether the repository of `image` matches one of `patterns` (repositories; `*` matches any characters)."""
    wanted = repository(image)
    return any(pattern == "*" or fnmatchcase(wanted, repository(pattern)) for pattern in patterns)


def tag(image: str) -> str | None:
    """`v0.32.0` of `vllm/vllm-openai:v0.32.0`; None without a tag."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] or None
