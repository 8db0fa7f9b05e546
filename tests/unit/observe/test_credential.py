"""The credential is read from a labelled Secret; every problem names the Secret and what to fix, and never the key."""

import base64
from typing import Any

import pytest

from modelsync.api import names
from modelsync.observe.credential import credential_of, without_consent
from modelsync.registry.errors import DeniedError

API_KEY = "0123456789abcdef" * 3


def secret(value: str | bytes = API_KEY, *, label: str = "true", key: str = "WANDB_API_KEY") -> dict[str, Any]:
    encoded = base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
    metadata = {"name": "wandb", "namespace": "prod", "labels": {names.CREDENTIAL_LABEL: label}}
    return {"metadata": metadata, "data": {key: encoded}}


def test_a_labelled_secret_with_the_key_is_a_credential() -> None:
    assert credential_of(secret(), "WANDB_API_KEY") is not None


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (secret(label="false"), f"kubectl label secret -n prod wandb {names.CREDENTIAL_LABEL}=true"),
        (secret(key="OTHER"), "Secret prod/wandb has no key 'WANDB_API_KEY'; its keys are: OTHER"),
        ({**secret(), "data": None}, "its keys are: none"),
        (secret(b"\xff\xfe"), "Secret prod/wandb key WANDB_API_KEY is not text"),
        (secret("a-short-key"), "40"),
    ],
)
def test_a_problem_names_what_to_fix(found: dict[str, Any], message: str) -> None:
    with pytest.raises(DeniedError) as caught:
        credential_of(found, "WANDB_API_KEY")
    assert str(caught.value).startswith("spec.registry.auth.secretKeyRef: ")
    assert message in str(caught.value)
    assert "a-short-key" not in str(caught.value)


@pytest.mark.parametrize("key", ["WANDB_API_KEY", "OTHER"])
def test_without_consent_nobody_learns_whether_the_secret_exists_or_which_keys_it_has(key: str) -> None:
    with pytest.raises(DeniedError) as caught:
        credential_of(secret(label="false", key=key), "WANDB_API_KEY")
    assert str(caught.value) == str(without_consent("prod", "wandb", "WANDB_API_KEY"))
    assert "OTHER" not in str(caught.value)
    assert "Secret prod/wandb does not exist, or lacks the label" in str(caught.value)
