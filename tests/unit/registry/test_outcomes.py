"""How a reply without a positive answer is classified."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelsync.registry import outcomes
from modelsync.registry.errors import (
    DeniedError,
    GraphQLError,
    NotFoundError,
    NotGraphQLError,
    RefusedError,
    RegistryError,
    ThrottledError,
    UnreachableError,
)
from modelsync.registry.exchange import NoReply, Reply
from modelsync.registry.model import Denied, Missing, Throttled, Unreachable
from unit.registry.facts import CHAT, T0, collection, missing, unreachable

REF = CHAT.at("prodution")


def reply(value: Any = None, *errors: GraphQLError, status: int = 200, project_missing: bool = False) -> Reply:
    return Reply(value, errors, project_missing, status, T0, T0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeniedError("answered 401", status=401), Denied),
        (DeniedError("answered 403", status=403), Denied),
        (NotFoundError("answered 404"), Missing),
        (ThrottledError("wait", until=T0 + timedelta(seconds=9)), Throttled),
        (UnreachableError("no route"), Unreachable),
        (UnreachableError("answered 502", status=502), Unreachable),
        (NotGraphQLError("a login page"), Unreachable),
        (RefusedError("refused", status=400, messages=("no such field",)), Unreachable),
    ],
)
def test_no_reply_is_classified_by_its_error_for_references_collections_and_artifacts(
    error: RegistryError, kind: type
) -> None:
    no_reply = NoReply(error, T0, T0)
    found = (
        outcomes.of_ref(REF, no_reply, unreachable(CHAT)),
        outcomes.of_collection(CHAT, no_reply),
        outcomes.of_artifact("QXJ0", no_reply),
    )
    assert [type(outcome) for outcome in found] == [kind] * 3


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (GraphQLError("permission denied"), 200, Denied),
        (GraphQLError("nope", code="PERMISSION_ERROR"), 200, Denied),
        (GraphQLError("nope"), 403, Denied),
        (GraphQLError("project not found"), 200, Missing),
        (GraphQLError("nope"), 404, Missing),
        (GraphQLError("internal error"), 200, Unreachable),
    ],
)
def test_an_error_beside_a_null_is_classified_by_its_code_its_words_or_the_status(
    error: GraphQLError, status: int, kind: type
) -> None:
    assert type(outcomes.of_ref(REF, reply(None, error, status=status), collection())) is kind


@pytest.mark.parametrize(
    ("pinned", "around", "project_missing", "what"),
    [
        (False, collection(), False, "alias"),
        (True, collection(), False, "version"),
        (False, unreachable(CHAT), True, "project"),
        (False, replace(missing(CHAT), what="collection"), False, "collection"),
    ],
)
def test_a_null_is_classified_by_how_much_of_its_path_could_be_read(
    pinned: bool, around: Any, project_missing: bool, what: str
) -> None:
    ref = CHAT.at("v7") if pinned else REF
    found = outcomes.of_ref(ref, reply(project_missing=project_missing), around)
    assert isinstance(found, Missing)
    assert found.what == what


def test_a_missing_alias_is_reported_with_the_existing_ones_and_the_nearest_first() -> None:
    found = outcomes.of_ref(REF, reply(), collection(aliases=("production", "canary")))
    assert isinstance(found, Missing)
    assert found.message == (
        "acme/wandb-registry-model/chat llm has no alias 'prodution'; did you mean 'production'? "
        "its aliases are canary, production"
    )


def test_a_name_whose_artifact_is_null_is_a_version_that_is_gone() -> None:
    found = outcomes.of_ref(REF, reply({"artifact": None, "versionIndex": 7}), collection())
    assert isinstance(found, Missing)
    assert found.what == "version"


def test_an_answer_of_an_odd_shape_moves_nothing_and_names_the_part() -> None:
    found = outcomes.of_ref(REF, reply({"artifact": {"id": 5}}), collection())
    assert isinstance(found, Unreachable)
    assert "does not match W&B's schema (versionIndex" in found.message


def test_aliases_in_a_message_are_printable_few_and_short() -> None:
    aliases = {f"\x1b[31m-{number:05}-{'x' * 9999}" for number in range(2000)} | {"production"}
    began = time.process_time()
    found = outcomes.of_ref(REF, reply(), collection(aliases=aliases))
    assert isinstance(found, Missing)
    assert "did you mean 'production'?" in found.message
    assert found.message.isprintable()
    assert len(found.message) < 2000
    assert time.process_time() - began < 2
