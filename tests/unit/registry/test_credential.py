"""A key must never be printed, and an invalid one is rejected before it is sent."""

import copy
import pickle

import pytest

from modelsync.registry.credential import Credential, InvalidCredentialError

KEY = "local-" + "0123456789abcdef" * 2 + "01234567"


def test_a_key_is_in_no_repr_and_in_no_text() -> None:
    credential = Credential(KEY)
    assert KEY not in f"{credential!r} {credential!s} {[credential]}"
    assert credential.key == KEY


def test_a_key_from_a_secret_made_with_echo_loses_its_newline() -> None:
    assert Credential(f"{KEY}\n").key == KEY


def test_a_key_does_not_leave_the_process_by_pickling_or_copying() -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(Credential(KEY))


@pytest.mark.parametrize("given", ["", "  \n", "short", "x" * 39, "a b" * 20, "ключ" * 12, f"{KEY}\r\nX-Evil: 1"])
def test_what_cannot_be_a_key_is_refused_by_its_source_and_never_shown(given: str) -> None:
    with pytest.raises(InvalidCredentialError, match=r"^Secret prod/wandb ") as caught:
        Credential(given, source="Secret prod/wandb")
    assert "W&B user settings" in str(caught.value)
    assert not given.strip() or given.strip() not in str(caught.value)


def test_a_token_of_three_parts_is_taken_as_wandb_does() -> None:
    assert Credential("aa.bb.cc").key == "aa.bb.cc"


def test_a_key_is_scrubbed_from_text_plain_and_as_a_header_has_it() -> None:
    import base64

    header = base64.b64encode(f"api:{KEY}".encode()).decode()
    assert Credential(KEY).scrub(f"no user for {KEY} ({header})") == "no user for *** (***)"
