"""The flags of `vllm serve`, and which of them a ModelDeployment may use.

The table (`vllm_flags.json`) is generated from vLLM's sources by `hack/generate/vllm_flags.py`; this module defines the
policy. An argument must be one `--flag=value` in vLLM's exact spelling: argparse also accepts abbreviations,
underscores and values as separate items, and each of these could bypass the policy or hide a typo until a pod crashes.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from modelsync.api.foreign_json import ForeignJSONError, read_json

OWNED: Mapping[str, str] = {
    "--host": "the probes and the Service expect the operator's address and port",
    "--port": "the probes and the Service expect the operator's address and port",
    "--uds": "the probes and the Service expect the operator's address and port",
    "--root-path": "the probes and the Service expect the operator's address and port",
    "--ssl-keyfile": "TLS ends at the gateway",
    "--ssl-certfile": "TLS ends at the gateway",
    "--ssl-ca-certs": "TLS ends at the gateway",
    "--ssl-cert-reqs": "TLS ends at the gateway",
    "--ssl-ciphers": "TLS ends at the gateway",
    "--enable-ssl-refresh": "TLS ends at the gateway",
    "--model": "the model is set from spec.modelRef",
    "--served-model-name": "it is set from spec.serving.servedModelName and contains the revision",
    "--middleware": "it provides the version header and the readiness check",
    "--shutdown-timeout": "it is set from spec.serving.shutdownTimeout",
    "--fingerprint-mode": "system_fingerprint names the revision",
    "--fingerprint-value": "system_fingerprint names the revision",
    "--headless": "a pod without an API server does not load the middleware, so a hold could not silence it",
    "--grpc": "vLLM's gRPC server does not load the middleware, so a hold could not silence it",
    "--grpc-port": "vLLM's gRPC server does not load the middleware, so a hold could not silence it",
    "--tokens-only": "the pod serves the OpenAI API",
    "--nnodes": "each pod is an independent server",
    "--node-rank": "each pod is an independent server",
    "--master-addr": "each pod is an independent server",
    "--master-port": "each pod is an independent server",
    "--data-parallel-multi-port-external-lb": "each pod serves on one port only",
    "--data-parallel-supervisor-port": "each pod serves on one port only",
}
"""Flags that the operator sets itself, or that would break what it relies on; nobody can allow them. Flag → why."""

_CODE = "it loads code"
_FOREIGN = "it loads content that is not part of the verified artifact"
_DOOR = "it opens an endpoint or a connection beyond the model's API"
_TRUST = "vLLM offers it for trusted clients only"
_GROUP = "the pod would join a process group of other hosts, which exchange pickled objects"
_FILES = "it reads or writes files of the pod that are not part of a verified artifact"
_LOGS = "it writes what users send and get into the pod's log"

REFUSED: Mapping[str, str] = {
    "--trust-remote-code": _CODE,
    "--code-revision": _CODE,
    "--hf-overrides": _CODE,
    "--model-class-overrides": _CODE,
    "--worker-cls": _CODE,
    "--worker-extension-cls": _CODE,
    "--scheduler-cls": _CODE,
    "--logits-processors": _CODE,
    "--io-processor-plugin": _CODE,
    "--tool-parser-plugin": _CODE,
    "--reasoning-parser-plugin": _CODE,
    "--ec-manager-config": _CODE,
    "--log-config-file": _CODE,
    "--logging-config": _CODE,
    "--additional-config": "what it does depends on the platform's plugin",
    "--config": "it adds flags that are not checked",
    "--tokenizer": _FOREIGN,
    "--tokenizer-revision": _FOREIGN,
    "--revision": _FOREIGN,
    "--hf-config-path": _FOREIGN,
    "--hf-token": "tokens do not belong in a pod's arguments, and models are loaded offline",
    "--lora-modules": _FOREIGN,
    "--default-mm-loras": _FOREIGN,
    "--speculative-config": _FOREIGN,
    "--spec-method": _FOREIGN,
    "--spec-model": _FOREIGN,
    "--weight-transfer-config": _FOREIGN,
    "--api-key": "the readiness probe and clients would be rejected, and the key would be visible in the pod",
    "--kv-transfer-config": _DOOR,
    "--kv-events-config": _DOOR,
    "--ec-transfer-config": _DOOR,
    "--otlp-traces-endpoint": _DOOR,
    "--profiler-config": _DOOR,
    "--tool-server": _DOOR,
    "--enable-scale-out": _DOOR,
    "--enable-elastic-ep": _DOOR,
    "--enable-fault-tolerance": _DOOR,
    "--enable-tokenizer-info-endpoint": _DOOR,
    "--allowed-local-media-path": "clients could read files of the pod",
    "--trust-request-chat-template": _TRUST,
    "--trust-request-mm-kwargs": _TRUST,
    "--enable-prompt-embeds": _TRUST,
    "--enable-mm-embeds": _TRUST,
    "--data-parallel-address": _GROUP,
    "--data-parallel-rpc-port": _GROUP,
    "--data-parallel-rank": _GROUP,
    "--data-parallel-start-rank": _GROUP,
    "--data-parallel-external-lb": _GROUP,
    "--data-parallel-hybrid-lb": _GROUP,
    "--mm-encoder-fp8-scale-path": _FILES,
    "--mm-encoder-fp8-scale-save-path": _FILES,
    "--download-dir": _FILES,
    "--enable-log-requests": _LOGS,
    "--enable-log-outputs": _LOGS,
    "--enable-log-deltas": _LOGS,
    "--disable-log-stats": "rollout analysis needs vLLM's metrics",
}
"""Flags that only the administrator can allow (`allowedArgs` of the operator's settings). Flag → why."""

_VALUES: Mapping[str, tuple[str, ...]] = {
    "--load-format": (
        "auto",
        "safetensors",
        "fastsafetensors",
        "instanttensor",
        "mistral",
        "runai_streamer",
        "runai_streamer_sharded",
    ),
    "--generation-config": ("auto", "vllm"),
    "--distributed-executor-backend": ("mp", "uni"),
    "--data-parallel-backend": ("mp",),
}
"""Flags of which everyone may use only these values; others load code or unverified content. Flag → values."""

LOAD_FORMAT = "--load-format"


def weights_pattern(args: Sequence[str]) -> str:
    """The files that vLLM loads weights from with these arguments; empty with a loader that only the administrator can
    allow, which may read anything."""
    given = {flag: value for flag, _, value in (arg.partition("=") for arg in args)}
    load_format = given.get(LOAD_FORMAT, "auto")
    if load_format not in _VALUES[LOAD_FORMAT]:
        return ""
    return "consolidated*.safetensors" if load_format == "mistral" else "*.safetensors"


_LEAST: Mapping[str, tuple[int, str]] = {
    "--api-server-count": (
        1,
        "without an API server the pod does not load the middleware, so a hold could not silence it",
    ),
}
"""Flags with a minimum value that nobody can lower. Flag → minimum, and why."""

_JSON_KEYS: Mapping[str, tuple[str, ...]] = {
    "--compilation-config": ("backend", "inductor_passes", "inductor_compile_config", "cache_dir"),
    "--structured-outputs-config": ("reasoning_parser_plugin",),
}
"""Keys of a JSON flag that load code, whether written as JSON or as `--flag.key=value`. Flag → keys."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
"""Of as many digits as fit into 64 bits: Python refuses to print one of thousands."""
_HUMAN_INTEGER = re.compile(r"[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{1,18})?[kmgt]|[0-9]{1,18}[KMGT]")

_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))', re.DOTALL)
"""The strings of a JSON text. One without an end is taken to the end of the text; if it were looked for again at each
quotation mark in it, 64 items of `\\"` would take 10 s."""
_SUFFIXED = re.compile(r"\b([0-9]+(?:\.[0-9]+)?)[kKmMgGtT]\b")

MAX_HINTS = 5
"""How many problems of one spec name the most similar flag: it is searched among all flags of vLLM."""


@dataclass(frozen=True)
class ArgProblem:
    """What is wrong with one item of `spec.serving.args`."""

    index: int
    """Index in the list, from 0."""
    message: str
    """The item, what is wrong, what is allowed, what to do next."""

    @property
    def field(self) -> str:
        """The path of the item in the resource."""
        return f"spec.serving.args[{self.index}]"

    @property
    def text(self) -> str:
        """Path and message in one line."""
        return f"{self.field}: {self.message}"


@dataclass(frozen=True)
class Flag:
    """One flag of `vllm serve`, as argparse accepts it."""

    name: str
    takes: Literal["nothing", "value", "optional"]
    type: Literal["str", "int", "human-int", "human-int-or-auto", "float", "json", "json-or-str"] = "str"
    choices: tuple[str, ...] = ()
    """All valid values; empty if any value is valid."""
    no: bool = False
    """Whether `--no-…` exists."""
    none: bool = False
    """Whether `None` and the empty value are valid too."""
    fold: bool = False
    """Whether choices accept upper case, and `-` for `_`."""
    many: bool = False
    """Whether argparse accepts several values."""
    repeats: bool = False
    """Whether the flag may be repeated."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlagTable:
    """The flags of one version of vLLM."""

    version: str
    flags: Mapping[str, Flag]
    spellings: Mapping[str, tuple[Flag, bool]]
    """Each long spelling, including `--no-…` and aliases → the flag, and whether the spelling turns it off."""


def check_args(args: Sequence[str], vllm_version: str | None, allowed: Collection[str] = ()) -> list[ArgProblem]:
    """The problems of `spec.serving.args` for that version of vLLM; empty if there are none.

    `vllm_version` is the version or image tag (`v0.32.0`), or None if the image does not show it: see `table_for`.
    `allowed` are the additional flags that the administrator allows, such as `--trust-remote-code` or, for one key of a
    JSON flag, `--compilation-config.backend`. They may also be flags that the table does not have, for a newer vLLM.
    """
    table = table_for(vllm_version)
    unknown = parse_version(vllm_version) is None
    problems: list[ArgProblem] = []
    seen: dict[str, int] = {}
    for index, arg in enumerate(args):
        message = _check(
            arg, args[index + 1 : index + 2], table, frozenset(allowed), unknown, hint=len(problems) < MAX_HINTS
        )
        name = _identity(arg, table)
        if message is None and name is not None and name in seen:
            message = f"{_shown(arg)} repeats args[{seen[name]}]; vLLM would use only the last one; remove one"
        if name is not None:
            seen.setdefault(name, index)
        if message is not None:
            problems.append(ArgProblem(index, message))
    return problems


NEEDED = ("--middleware", "--shutdown-timeout")
"""Flags that vLLM must have: for readiness and holds, and for finishing responses before a pod stops."""


def check_version(vllm_version: str | None) -> str | None:
    """Why that version of vLLM is not supported, and which is; None if it is supported or not known."""
    asked, oldest = parse_version(vllm_version), min(_tables())
    if asked is None or asked >= oldest:
        return None
    return (
        f"has the tag {vllm_version}, and that version of vLLM lacks {NEEDED[-1]}: its pods would cut off requests in "
        f"progress when they stop; use v{_tables()[oldest].version} or newer"
    )


def table_for(vllm_version: str | None) -> FlagTable:
    """The table for a version of vLLM: its own, else that of the next older version, else the oldest.

    A version that is None or not of the form `0.32.0` (`latest`, `nightly`, a digest) gets the newest table.
    """
    tables = _tables()
    versions = sorted(tables)
    asked = parse_version(vllm_version)
    if asked is None:
        return tables[versions[-1]]
    return tables[max((version for version in versions if version <= asked), default=versions[0])]


def _check(
    arg: str, following: Sequence[str], table: FlagTable, allowed: Collection[str], unknown: bool, *, hint: bool
) -> str | None:
    """The message for one item; None if it may be used. `unknown`: whether the image does not show its version, so that
    `table` is only the newest one."""
    spelling, equals, value = arg.partition("=")
    spelling, dot, key = spelling.partition(".")
    if not spelling.startswith("--"):
        return _not_long(arg, table)
    found = table.spellings.get(spelling)
    if found is None or (dot and not found[0].type.startswith("json")):
        if spelling in allowed:
            return None
        return _unknown(spelling + dot + key, table, hint=hint) + (_UNKNOWN_VERSION if unknown else "")
    flag, off = found
    if flag.name in OWNED:
        return f"{spelling} is set by the operator, because {OWNED[flag.name]}; remove it"
    if not off:
        refusal = _refusal(flag, key.removesuffix("+"), value, allowed)
        if refusal is not None:
            return refusal
    if flag.takes == "nothing":
        instead = f"; write {flag.name}" + (f" or --no-{flag.name[2:]}" if flag.no else "")
        return f"{_shown(arg)}: {spelling} takes no value{instead}" if equals else None
    if not equals:
        if flag.takes == "optional":
            return None
        example = following[0] if following and not following[0].startswith("-") else "…"
        return f"{spelling} needs a value in the same item; write {_shown(f'{spelling}={example}')}"
    return None if dot else _check_value(flag, value)


def _refusal(flag: Flag, key: str, value: str, allowed: Collection[str]) -> str | None:
    """Why the policy rejects this flag, this key of it or this value of it; None if it does not."""
    if flag.name in allowed:
        return None
    ask = "the administrator can allow it"
    if flag.name in REFUSED:
        return f"{flag.name} is not allowed, because {REFUSED[flag.name]}; {ask}: allowedArgs: [{flag.name}]"
    if flag.name in _VALUES and value not in _VALUES[flag.name]:
        return (
            f"{flag.name}={_shown(value)} is not allowed; allowed values: {', '.join(_VALUES[flag.name])}; {ask}: "
            f"allowedArgs: [{flag.name}]"
        )
    for refused in _JSON_KEYS.get(flag.name, ()):
        if refused in _keys(key, value) and f"{flag.name}.{refused}" not in allowed:
            dotted = f"{flag.name}.{refused}"
            return f"{dotted} is not allowed, because {_CODE}; {ask}: allowedArgs: [{dotted}]"
    return None


def _keys(key: str, value: str) -> set[str]:
    """The first-level keys that `--flag.key=value` or `--flag={…}` sets."""
    if key:
        return {key.partition(".")[0]}
    try:
        parsed = _parse_json(value)
    except ValueError:
        return set()  # `_check_value` reports that it is not JSON
    return set(parsed) if isinstance(parsed, dict) else set()


def _check_value(flag: Flag, value: str) -> str | None:
    if flag.none and value in ("", "None"):
        return None
    wanted: str | None = None
    folded = value.lower().replace("-", "_") if flag.fold else value
    if flag.choices and folded not in flag.choices:
        near = get_close_matches(folded, flag.choices, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        wanted = f"one of {', '.join(flag.choices)}{meant}"
    elif flag.type == "int" and not _INTEGER.fullmatch(value):
        wanted = "a whole number"
    elif flag.name in _LEAST and int(value) < _LEAST[flag.name][0]:
        least, why = _LEAST[flag.name]
        wanted = f"at least {least}, because {why}"
    elif flag.type == "human-int" and not _HUMAN_INTEGER.fullmatch(value):
        wanted = "a whole number, optionally with k, m, g (1000) or K, M, G (1024)"
    elif (
        flag.type == "human-int-or-auto" and value.lower() not in ("-1", "auto") and not _HUMAN_INTEGER.fullmatch(value)
    ):
        wanted = "a whole number, optionally with k (1000) or K (1024), or auto"
    elif flag.type == "float" and not _is_float(value):
        wanted = "a number"
    elif (flag.type == "json" and not _is_json(value)) or (flag.type == "json-or-str" and _is_broken_json(value)):
        wanted = f"JSON, or its keys one by one as {flag.name}.key=value"
    return None if wanted is None else f"{flag.name}={_shown(value)} is not valid; it must be {wanted}"


def _not_long(arg: str, table: FlagTable) -> str:
    """The message for an item that does not begin with `--`."""
    short, equals, value = arg.partition("=")
    for flag in table.flags.values():
        if short in flag.aliases:
            return f"{_shown(arg)}: write {flag.name}{equals}{value}; short flags are not accepted"
    if arg.startswith("-O"):
        return f"{_shown(arg)}: write --optimization-level={arg[2:].lstrip('=') or '…'}; short flags are not accepted"
    return f"{_shown(arg)} is not a flag; write each item as --flag=value"


_UNKNOWN_VERSION = (
    "; the image has no tag with a version, so it is checked as the newest that this modelsync knows: if it is another "
    "one, name the image with its tag (repository:v0.32.0, also together with a digest)"
)


def _unknown(spelling: str, table: FlagTable, *, hint: bool) -> str:
    """The message for a flag that vLLM does not have, with the most similar one."""
    if " " in spelling:
        name, _, value = spelling.partition(" ")
        return f"{_shown(spelling)}: write {name}={value.strip()}; join flag and value with ="
    dashed = spelling.replace("_", "-")
    near = [dashed] if dashed in table.spellings else []
    if hint and not near:
        near = get_close_matches(dashed, table.spellings, n=1, cutoff=0.75)
    meant = f"; did you mean {near[0]}?" if near else "; `vllm serve --help=all` lists all flags"
    return f"{_shown(spelling)} is not a flag of vLLM v{table.version}{meant}"


def _identity(arg: str, table: FlagTable) -> str | None:
    """The flag, or the key of a JSON flag, that an item sets, to find duplicates; None if it may be repeated."""
    spelling, _, _ = arg.partition("=")
    name, dot, key = spelling.partition(".")
    found = table.spellings.get(name)
    if found is None or found[0].repeats or key.endswith("+"):
        return None
    return found[0].name + dot + key


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


MAX_VALUE_BYTES = 64 << 10
"""Of a flag's value that is read as JSON."""


def _is_json(value: str) -> bool:
    try:
        _parse_json(value)
    except ForeignJSONError:
        return False
    return True


def _parse_json(value: str) -> Any:
    """Read JSON as vLLM does: numbers outside of strings may have suffixes such as 80g. Raises ValueError.

    The policy checks the result, so this must not fail where vLLM would not.
    """
    parts = _STRINGS.split(value)
    parts[::2] = [_SUFFIXED.sub(r"\1", part) for part in parts[::2]]
    return read_json("".join(parts), max_bytes=MAX_VALUE_BYTES)


def _is_broken_json(value: str) -> bool:
    """Whether it looks like a JSON object, so that vLLM would parse it, but is not valid JSON."""
    return bool(re.fullmatch(r"\s*{.*}\s*", value, re.DOTALL)) and not _is_json(value)


def parse_version(text: str | None) -> tuple[int, ...] | None:
    """`(0, 32, 0)` of a version or an image's tag such as `v0.32.0-cu129`; None if it has no such form."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in match.groups()) if match else None


@cache
def _tables() -> Mapping[tuple[int, ...], FlagTable]:
    """The file has the newest version in full, and for each older one the differences from the next newer one."""
    content: dict[str, dict[str, dict[str, Any] | None]] = json.loads(
        Path(__file__).with_name("vllm_flags.json").read_text()
    )
    tables: dict[tuple[int, ...], FlagTable] = {}
    raw: dict[str, dict[str, Any]] = {}
    for numbers, version in sorted(((tuple(map(int, name.split("."))), name) for name in content), reverse=True):
        raw = {name: flag for name, flag in {**raw, **content[version]}.items() if flag is not None}
        tables[numbers] = _table(version, raw)
    return tables


def _table(version: str, content: Mapping[str, Mapping[str, Any]]) -> FlagTable:
    flags: dict[str, Flag] = {}
    spellings: dict[str, tuple[Flag, bool]] = {}
    for name, raw in content.items():
        choices = tuple(map(str, raw.get("choices", ())))
        flag = Flag(**{**raw, "name": name, "choices": choices, "aliases": tuple(raw.get("aliases", ()))})
        flags[name] = flag
        for long in (name, *(alias for alias in flag.aliases if alias.startswith("--"))):
            spellings[long] = (flag, False)
            if flag.no:
                spellings[f"--no-{long[2:]}"] = (flag, True)
    return FlagTable(version, flags, spellings)
