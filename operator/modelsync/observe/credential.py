"""Reads the W&B credential out of a Secret. Pure. An error must never contain the API key.

Whoever may create ModelDeployments reads the errors, and may not be allowed to read Secrets: about a Secret without the
label of consent they say nothing, not even whether it exists.
"""

import base64
import binascii

from modelsync.api import names
from modelsync.api.kinds import Object, labels_of, name_of
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.errors import DeniedError

_FIELD = "spec.registry.auth.secretKeyRef"


def credential_of(secret: Object, key: str) -> Credential:
    """Return the credential under `key`. Raises DeniedError, which says what to fix in the Secret."""
    namespace, name = secret["metadata"]["namespace"], name_of(secret)
    where = f"Secret {namespace}/{name}"
    if labels_of(secret).get(names.CREDENTIAL_LABEL) != "true":
        raise without_consent(namespace, name, key)
    data = secret.get("data") or {}
    if key not in data:
        raise denied(f"{where} has no key {key!r}; its keys are: {', '.join(sorted(data)) or 'none'}")
    try:
        text = base64.b64decode(data[key], validate=True).decode()
        return Credential(text, source=f"{where} key {key}")
    except (binascii.Error, UnicodeDecodeError):
        raise denied(f"{where} key {key} is not text; put the W&B API key there") from None
    except InvalidCredentialError as error:
        raise denied(str(error)) from None


def without_consent(namespace: str, name: str, key: str) -> DeniedError:
    """Return the error for a Secret that does not exist, and for one without the label: the same for both."""
    return denied(
        f"Secret {namespace}/{name} does not exist, or lacks the label {names.CREDENTIAL_LABEL}=true, by which its "
        f"owner consents; create it with the W&B API key under {key!r}, and run `kubectl label secret -n {namespace} "
        f"{name} {names.CREDENTIAL_LABEL}=true`"
    )


def denied(problem: str) -> DeniedError:
    """Return the error for a credential that a user has to fix."""
    return DeniedError(f"{_FIELD}: {problem}", status=403)
