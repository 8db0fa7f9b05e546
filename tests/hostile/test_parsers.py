"""Every parser of what somebody else wrote: only its declared errors come out, and soon, whatever goes in."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hostile import family
from hostile.junk import GONE, STRINGS, nested, paths, replaced, values
from modelsync.api import duration, quantity
from modelsync.api import settings as operator_settings
from modelsync.api.foreign_json import ForeignJSONError, read_json
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.api.pod_contract import TerminationMessage
from modelsync.api.requests import Request
from modelsync.api.settings import SettingsError
from modelsync.cluster import wire as api_server
from modelsync.kubectl.cluster import transport
from modelsync.kubectl.commands import hold as hold_command
from modelsync.kubectl.errors import PluginError
from modelsync.kubectl.view import listing, tree
from modelsync.kubectl.view.deployment import view
from modelsync.middleware.modelsync_middleware.exam_format import ExamError, parse_exam
from modelsync.observe.exams import exam_of
from modelsync.observe.fuse import read_acknowledgement
from modelsync.puller.digests import Algorithm
from modelsync.puller.errors import PullError
from modelsync.puller.manifest import read_manifest
from modelsync.registry import outcomes
from modelsync.registry.exchange import Reply
from modelsync.registry.webhook import is_signed, place_of
from modelsync.resources.adapter_config import AdapterRefusedError, read_adapter
from modelsync.resources.record import Record, RecordError

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SOON = 2.0
"""Seconds for the largest input on a busy machine. What is quadratic takes minutes."""
REF = ModelRef.parse("acme/wandb-registry-model/chat llm:production")


@dataclass(frozen=True)
class Parser:
    """One parser: what it may raise, and valid input as JSON."""

    name: str
    read: Callable[[Any], object]
    declared: tuple[type[Exception], ...]
    valid: Any

    def check(self, given_input: Any) -> None:
        """Read it. Fails if anything but a declared error comes out."""
        try:
            self.read(given_input)
        except self.declared:
            return


def _text(document: Any) -> bytes:
    """As a writer without scruples writes it: NaN, half characters, any depth."""
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return b"[" * 5000 + b"]" * 5000


def _reply(value: Any) -> Reply:
    return Reply(value, (), False, 200, NOW, NOW)


def _record(value: Any) -> Record:
    return Record.parse(value if isinstance(value, dict) else {"metadata": value, "data": value})


def _plugin(status: Any) -> None:
    shown = view({**family.valid()["owner"], "status": status})
    console = Console(file=open("/dev/null", "w", encoding="utf-8", errors="replace"), width=200)  # noqa: SIM115
    console.print(tree.picture(shown, NOW))
    console.print(listing.trees([shown], NOW))
    console.print(hold_command.explained(shown, NOW))
    console.file.close()


def _golden(lines: Any) -> object:
    return parse_exam(b"\n".join(map(_text, lines if isinstance(lines, list) else [lines])))


_CONTENTS = {"model.safetensors": {"digest": "AAAAAAAAAAAAAAAAAAAAAA==", "size": 3, "extra": {"alg": "MD5"}}}
_MANIFEST = {"version": 1, "storagePolicyConfig": {"storageLayout": "V2"}, "contents": _CONTENTS}
_HOME = {
    "__typename": "ArtifactPortfolio",
    "name": "chat llm",
    "project": {"name": "wandb-registry-model", "entity": {"name": "acme"}},
    "tags": {"edges": [{"node": {"name": "approved"}}]},
}
_LINK = {"versionIndex": 7, "aliases": [{"alias": "production"}], "artifactCollection": _HOME}
_VERSION = {
    "id": "id",
    "state": "COMMITTED",
    "digest": "0123456789abcdef",
    "digestAlgorithm": "MANIFEST_MD5",
    "size": 1,
    "fileCount": 1,
    "metadata": "{}",
    "versionIndex": 7,
    "createdAt": "2026-11-01T00:00:00",
    "updatedAt": "2026-11-01T00:00:00",
    "tags": [{"name": "regulatory-hold"}],
    "artifactType": {"name": "model"},
    "artifactSequence": {"name": "chat", "project": {"name": "llms", "entity": {"name": "acme"}}},
    "artifactMemberships": {"edges": [{"node": _LINK}]},
}
_PAGE = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": [{"node": {"alias": "production"}}]}
_EXAM = [
    {"exam": 1, "tolerance": 0.5},
    {"name": "sum", "prompt": "2+2=", "max_tokens": 2, "expect": {"contains": ["4"], "regex": "^4"}},
    {"messages": [{"role": "user", "content": "x"}], "expect": {"tokens": [{"a": -0.1}], "json": {"a": 1}}},
    {"input": "x", "expect": {"embedding": [0.1, 0.2], "min_cosine": 0.9}},
]

PARSERS = (
    Parser(
        "a manifest",
        lambda value: read_manifest(_text(value), digest="0" * 32, algorithm=Algorithm.MD5),
        (PullError,),
        _MANIFEST,
    ),
    Parser(
        "an adapter's configuration",
        lambda value: read_adapter(["adapter_model.safetensors"], _text(value)),
        (AdapterRefusedError,),
        {
            "peft_type": "LORA",
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q"],
            "rank_pattern": {"a": 4},
            "bias": "none",
        },
    ),
    Parser("a webhook", lambda value: place_of(_text(value)), (), {"entity_name": "a", "artifact_version_string": "b"}),
    Parser(
        "a fuse's answer",
        lambda value: read_acknowledgement(_text(value), NOW),
        (),
        {"processes": 2, "acknowledged": 2, "lastByteAge": 0.5},
    ),
    Parser(
        "an exam's answer",
        lambda value: exam_of(_text(value)),
        (),
        {"state": "Passed", "passed": 1, "total": 1, "seconds": 2.5, "message": ""},
    ),
    Parser("an exam", _golden, (ExamError,), _EXAM),
    Parser(
        "a termination message",
        lambda value: TerminationMessage.parse(_text(value).decode()),
        (),
        {"outcome": "Pulled", "digest": "ab", "files": 1, "bytes": 2, "reused_bytes": 1, "seconds": 1.5, "ref": "x"},
    ),
    Parser("a record", _record, (RecordError,), family.valid()["record"]),
    Parser(
        "what a reference names",
        lambda value: outcomes.of_ref(REF, _reply(value), outcomes.of_collection(REF.in_collection, _reply(None))),
        (),
        {**_LINK, "artifact": _VERSION},
    ),
    Parser(
        "a collection",
        lambda value: outcomes.of_collection(REF.in_collection, _reply(value)),
        (),
        {**_HOME, "aliases": _PAGE},
    ),
    Parser("a version", lambda value: outcomes.of_artifact("id", _reply(value)), (), _VERSION),
    Parser("a status in the plugin", _plugin, (PluginError,), family.valid()["owner"]["status"]),
    Parser("kubectl's answer", lambda value: transport._object(_text(value).decode()), (PluginError,), {"items": [{}]}),
    Parser("the API server's answer", lambda value: api_server.parse(_text(value)), (ValueError,), {"items": [{}]}),
)

WHOLE: tuple[Any, ...] = (*STRINGS, nested(2000), 10**4000, float("nan"), {"": {}})

TEXTS: tuple[tuple[str, Callable[[str], object], tuple[type[Exception], ...]], ...] = (
    ("a reference", ModelRef.parse, (InvalidReferenceError,)),
    ("a collection's path", CollectionRef.parse, (InvalidReferenceError,)),
    ("a duration", duration.parse, (ValueError,)),
    ("a quantity", quantity.canonical, (ValueError,)),
    ("a request", Request.parse, ()),
    ("a signature", lambda text: is_signed(b"", text, "secret"), ()),
    ("a termination message", TerminationMessage.parse, ()),
    ("foreign JSON", lambda text: read_json(text, max_bytes=1 << 20), (ForeignJSONError,)),
)


@pytest.mark.parametrize("parser", PARSERS, ids=[each.name for each in PARSERS])
def test_what_is_valid_is_read(parser: Parser) -> None:
    parser.read(parser.valid) if parser.name != "a manifest" else parser.check(parser.valid)


@pytest.mark.parametrize("parser", PARSERS, ids=[each.name for each in PARSERS])
@settings(max_examples=60)
@given(data=st.data())
def test_any_value_anywhere_leads_to_declared_errors_only(parser: Parser, data: st.DataObject) -> None:
    nodes = [(), *paths(parser.valid)]
    path, value = data.draw(st.sampled_from(nodes)), data.draw(values | st.just(GONE))
    parser.check(replaced(parser.valid, path, value) if path or value is not GONE else {})


@pytest.mark.parametrize("parser", PARSERS, ids=[each.name for each in PARSERS])
@pytest.mark.parametrize(
    "value", [*STRINGS, nested(2000), 10**4000, float("nan"), {"": {}}], ids=range(len(STRINGS) + 4)
)
def test_a_hostile_value_instead_of_the_whole_leads_to_declared_errors_only(parser: Parser, value: Any) -> None:
    parser.check(value)


@pytest.mark.parametrize(("name", "read", "declared"), TEXTS, ids=[each[0] for each in TEXTS])
@settings(max_examples=100)
@given(text=st.text() | st.sampled_from(STRINGS) | st.text('0123456789.emhs/:v-+[]{}"\\', max_size=40))
def test_any_text_leads_to_declared_errors_only(
    name: str, read: Callable[[str], object], declared: tuple[type[Exception], ...], text: str
) -> None:
    Parser(name, read, declared, None).check(text)


BYTES = tuple(
    (name, body)
    for name, body in {
        "a string that never ends": b"[]" * 40 + b'"' + b'\\"' * 500_000,
        "quotes": b'"' * 1_000_000,
        "brackets": b"[" * 1_000_000,
        "brackets that close": b"[" * 500_000 + b"]" * 500_000,
        "digits": b"9" * 1_000_000,
        "a number in an object": b'{"a":' + b"9" * 1_000_000 + b"}",
        "a repeated key": b"{" + b",".join([b'"a":1'] * 100_000) + b"}",
        "many keys": b"{" + b",".join(b'"%d":1' % number for number in range(80_000)) + b"}",
        "an exponent": b"1e" + b"9" * 1_000_000,
        "backslashes": b'"' + b"\\" * 1_000_001,
        "spaces": b" " * 1_000_000,
        "no UTF-8": b"\xff" * 1_000_000,
        "slashes": b"a/" * 500_000,
        "parts of a duration": b"1h" * 500_000,
    }.items()
)

READERS: tuple[tuple[str, Callable[[bytes], object], tuple[type[Exception], ...]], ...] = (
    ("foreign JSON", lambda body: read_json(body, max_bytes=1 << 21), (ForeignJSONError,)),
    ("a manifest", lambda body: read_manifest(body, digest="0" * 32, algorithm=Algorithm.MD5), (PullError,)),
    ("a webhook", place_of, ()),
    ("an exam", parse_exam, (ExamError,)),
    ("the API server's answer", api_server.parse, (ValueError,)),
    ("a line of a watch", api_server.bounded_line, ()),
    ("a reference", lambda body: ModelRef.parse(body.decode(errors="replace")), (InvalidReferenceError,)),
    ("a duration", lambda body: duration.parse(body.decode(errors="replace")), (ValueError,)),
    ("a quantity", lambda body: quantity.canonical(body.decode(errors="replace")), (ValueError,)),
)


@pytest.mark.parametrize(("name", "body"), BYTES, ids=[name for name, _ in BYTES])
@pytest.mark.parametrize(("reader", "read", "declared"), READERS, ids=[each[0] for each in READERS])
def test_a_megabyte_is_read_or_refused_soon(
    reader: str,
    read: Callable[[bytes], object],
    declared: tuple[type[Exception], ...],
    name: str,
    body: bytes,
) -> None:
    began = time.process_time()
    Parser(reader, read, declared, None).check(body)
    assert time.process_time() - began < SOON, f"{reader}: {name}"


SETTINGS_TEXTS = (
    "x: " + "[" * 5000,
    "&a [" * 500,
    "- " * 5000,
    "a: &a [x,x]\nb: &b [*a,*a]\nallowedRegistries: *b",
    "? {a: b}\n: c",
    "!!python/object:os.system x",
    "allowedRegistries: 5",
    "allowedRegistries: ['http://[1']",
    "holds: {tags: [1, {}]}",
    "2026-99-99: x",
    "1e999: x",
    "servingImage: .nan",
    "x: 2026-13-45T99:99:99Z",
    "x: 190:20:30:99999999999999999999",
    "\x00",
    "a: 0x" + "f" * 5000,
    "a: " + "9" * 5000,
)


@pytest.mark.parametrize("text", SETTINGS_TEXTS, ids=range(len(SETTINGS_TEXTS)))
def test_a_settings_file_is_read_or_refused_with_a_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    Parser("settings", operator_settings.load, (SettingsError,), None).check(path)


def test_a_settings_file_that_is_not_utf_8_is_refused_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError):
        operator_settings.load(path)
