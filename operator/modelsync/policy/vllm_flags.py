"""The flags of `vllm serve`, and which of them a ModelDeployment may use.

The table (`vllm_flags.json`) is generated from vLLM's sources by `hack/generate/vllm_flags.py`; the policy stands here.
An argument is one `--flag=value` in vLLM's exact spelling: argparse would take abbreviations, underscores and values as
items of their own, and every such freedom is a way around the policy or a typo that only shows when a pod crashes.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

OWNED: Mapping[str, str] = {
    "--host": "the pod listens where its probes and Service look",
    "--port": "the pod listens where its probes and Service look",
    "--uds": "the pod listens where its probes and Service look",
    "--root-path": "the pod listens where its probes and Service look",
    "--ssl-keyfile": "TLS ends at the gateway",
    "--ssl-certfile": "TLS ends at the gateway",
    "--ssl-ca-certs": "TLS ends at the gateway",
    "--ssl-cert-reqs": "TLS ends at the gateway",
    "--ssl-ciphers": "TLS ends at the gateway",
    "--enable-ssl-refresh": "TLS ends at the gateway",
    "--model": "the model is what spec.modelRef names",
    "--served-model-name": "it comes from spec.serving.servedModelName and names the revision",
    "--middleware": "the version header and readiness come from it",
    "--shutdown-timeout": "it comes from spec.serving.shutdownTimeout",
    "--fingerprint-mode": "system_fingerprint names the revision",
    "--fingerprint-value": "system_fingerprint names the revision",
    "--headless": "a pod without an API server loads no middleware, so that a hold could not silence it",
    "--grpc": "vLLM's gRPC server loads no middleware, so that a hold could not silence it: the pod serves HTTP",
    "--grpc-port": "vLLM's gRPC server loads no middleware, so that a hold could not silence it: the pod serves HTTP",
    "--tokens-only": "the pod serves the OpenAI API",
    "--nnodes": "each pod serves by itself",
    "--node-rank": "each pod serves by itself",
    "--master-addr": "each pod serves by itself",
    "--master-port": "each pod serves by itself",
    "--data-parallel-multi-port-external-lb": "each pod serves on one port",
    "--data-parallel-supervisor-port": "each pod serves on one port",
}
"""Flags that the operator sets itself, or that would break what it builds on; nobody can allow them. Flag → why."""

_CODE = "it loads code"
_FOREIGN = "it brings in content that is not part of the verified artifact"
_DOOR = "it opens an endpoint or a connection beyond the model's API"
_TRUST = "vLLM offers it for trusted clients only"

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
    "--config": "it brings in flags that nobody has checked",
    "--tokenizer": _FOREIGN,
    "--tokenizer-revision": _FOREIGN,
    "--revision": _FOREIGN,
    "--hf-config-path": _FOREIGN,
    "--hf-token": "a token does not belong into a pod's arguments, and models are loaded offline",
    "--lora-modules": _FOREIGN,
    "--default-mm-loras": _FOREIGN,
    "--speculative-config": _FOREIGN,
    "--spec-method": _FOREIGN,
    "--spec-model": _FOREIGN,
    "--weight-transfer-config": _FOREIGN,
    "--api-key": "the readiness probe and the gateway's clients would be refused, and the key would show in the pod",
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
    "--disable-log-stats": "the analysis of a rollout needs vLLM's metrics",
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
    "--distributed-executor-backend": ("mp", "uni", "ray"),
}
"""Flags of which only these values are for everyone; others load code or foreign content. Flag → values."""

_LEAST: Mapping[str, tuple[int, str]] = {
    "--api-server-count": (1, "without an API server the pod loads no middleware, so that a hold could not silence it"),
}
"""Flags whose value may not be smaller, whoever allows them. Flag → least value, and why."""

_JSON_KEYS: Mapping[str, tuple[str, ...]] = {
    "--compilation-config": ("backend", "inductor_passes", "inductor_compile_config", "cache_dir"),
    "--structured-outputs-config": ("reasoning_parser_plugin",),
}
"""Keys inside a JSON flag that load code, whether given as JSON or as `--flag.key=value`. Flag → keys."""

_HUMAN_INTEGER = re.compile(r"\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT]")


@dataclass(frozen=True)
class ArgProblem:
    """What is wrong with one item of `spec.serving.args`."""

    index: int
    """Its place in the list, from 0."""
    message: str
    """The item, what is wrong, what is allowed, what to do next."""

    @property
    def field(self) -> str:
        """The item's path in the resource."""
        return f"spec.serving.args[{self.index}]"

    @property
    def text(self) -> str:
        """Path and message in one line."""
        return f"{self.field}: {self.message}"


@dataclass(frozen=True)
class Flag:
    """One flag of `vllm serve`, as argparse takes it."""

    name: str
    takes: Literal["nothing", "value", "optional"]
    type: Literal["str", "int", "human-int", "human-int-or-auto", "float", "json", "json-or-str"] = "str"
    choices: tuple[str, ...] = ()
    """All values there are, or empty."""
    no: bool = False
    """Whether `--no-…` exists."""
    none: bool = False
    """Whether `None` and the empty value are values too."""
    fold: bool = False
    """Whether upper case and `-` for `_` are taken in choices."""
    many: bool = False
    """Whether argparse takes several values."""
    repeats: bool = False
    """Whether it may come several times."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlagTable:
    """The flags of one version of vLLM."""

    version: str
    flags: Mapping[str, Flag]
    spellings: Mapping[str, tuple[Flag, bool]]
    """Each long spelling, `--no-…` and aliases included → the flag, and whether it is switched off."""


def check_args(args: Sequence[str], vllm_version: str | None, allowed: Collection[str] = ()) -> list[ArgProblem]:
    """What is wrong with `spec.serving.args` for a vLLM of that version; empty if nothing is.

    `vllm_version` is the version or image tag (`v0.32.0`), or None when the image does not tell: see `table_for`.
    `allowed` are the flags beyond the policy that the administrator allows, spelled `--trust-remote-code` or, for one
    key of a JSON flag, `--compilation-config.backend`. They may also name flags that the table does not know, for a
    vLLM newer than it.
    """
    table = table_for(vllm_version)
    problems: list[ArgProblem] = []
    seen: dict[str, int] = {}
    for index, arg in enumerate(args):
        message = _check(arg, args[index + 1 :], table, frozenset(allowed))
        name = _identity(arg, table)
        if message is None and name is not None and name in seen:
            message = f"{_shown(arg)} repeats args[{seen[name]}], of which vLLM would take only the last; take one out"
        if name is not None:
            seen.setdefault(name, index)
        if message is not None:
            problems.append(ArgProblem(index, message))
    return problems


NEEDED = ("--middleware", "--shutdown-timeout")
"""Without these a vLLM cannot be served: readiness and holds, and answers that end before their pod does."""


def check_version(vllm_version: str | None) -> str | None:
    """Why a vLLM of that version cannot be served, and which can; `None` if it can, or does not tell its version."""
    asked, oldest = parse_version(vllm_version), min(_tables())
    if asked is None or asked >= oldest:
        return None
    return (
        f"is tagged {vllm_version}, which reads as a vLLM that lacks {NEEDED[-1]}: its pods would cut the answers "
        f"under way when they end; use v{_tables()[oldest].version} or newer"
    )


def table_for(vllm_version: str | None) -> FlagTable:
    """The table for a version of vLLM: its own, else the newest that is not newer, else the oldest there is.

    A version that is None or not of the form `0.32.0` (`latest`, `nightly`, a digest) gets the newest table.
    """
    tables = _tables()
    versions = sorted(tables)
    asked = parse_version(vllm_version)
    if asked is None:
        return tables[versions[-1]]
    return tables[max((version for version in versions if version <= asked), default=versions[0])]


def _check(arg: str, following: Sequence[str], table: FlagTable, allowed: Collection[str]) -> str | None:
    """The message for one item, or None when it may be used."""
    spelling, equals, value = arg.partition("=")
    spelling, dot, key = spelling.partition(".")
    if not spelling.startswith("--"):
        return _not_long(arg, table)
    found = table.spellings.get(spelling)
    if found is None or (dot and not found[0].type.startswith("json")):
        if spelling in allowed:
            return None
        return _unknown(spelling + dot + key, table)
    flag, off = found
    if flag.name in OWNED:
        return f"{spelling} is set by the operator, because {OWNED[flag.name]}; take it out"
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
        return f"{spelling} takes a value in the same item; write {_shown(f'{spelling}={example}')}"
    return None if dot else _check_value(flag, value)


def _refusal(flag: Flag, key: str, value: str, allowed: Collection[str]) -> str | None:
    """Why policy refuses this flag, this key of it, or this value of it."""
    if flag.name in allowed:
        return None
    ask = "the administrator can allow it"
    if flag.name in REFUSED:
        return f"{flag.name} is refused, because {REFUSED[flag.name]}; {ask}: allowedArgs: [{flag.name}]"
    if flag.name in _VALUES and value not in _VALUES[flag.name]:
        return (
            f"{flag.name}={_shown(value)} is refused; allowed are {', '.join(_VALUES[flag.name])}; {ask}: "
            f"allowedArgs: [{flag.name}]"
        )
    for refused in _JSON_KEYS.get(flag.name, ()):
        if refused in _keys(key, value) and f"{flag.name}.{refused}" not in allowed:
            dotted = f"{flag.name}.{refused}"
            return f"{dotted} is refused, because {_CODE}; {ask}: allowedArgs: [{dotted}]"
    return None


def _keys(key: str, value: str) -> set[str]:
    """The first-level keys that `--flag.key=value` or `--flag={…}` sets."""
    if key:
        return {key.partition(".")[0]}
    try:
        parsed = _parse_json(value)
    except ValueError:
        return set()  # told as a value that is no JSON
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
    elif flag.type == "int" and not re.fullmatch(r"[+-]?\d+", value):
        wanted = "a whole number"
    elif flag.name in _LEAST and int(value) < _LEAST[flag.name][0]:
        least, why = _LEAST[flag.name]
        wanted = f"at least {least}, because {why}"
    elif flag.type == "human-int" and not _HUMAN_INTEGER.fullmatch(value):
        wanted = "a whole number, with k, m, g (1000) or K, M, G (1024) if need be"
    elif (
        flag.type == "human-int-or-auto" and value.lower() not in ("-1", "auto") and not _HUMAN_INTEGER.fullmatch(value)
    ):
        wanted = "a whole number, with k (1000) or K (1024) if need be, or auto"
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
            return f"{_shown(arg)}: write {flag.name}{equals}{value}; short flags are not taken"
    if arg.startswith("-O"):
        return f"{_shown(arg)}: write --optimization-level={arg[2:].lstrip('=') or '…'}; short flags are not taken"
    return f"{_shown(arg)} is not a flag; an item is one --flag=value, with its value in the same item"


def _unknown(spelling: str, table: FlagTable) -> str:
    """The message for a spelling that vLLM does not have, with the nearest that it has."""
    if " " in spelling:
        name, _, value = spelling.partition(" ")
        return f"{_shown(spelling)}: write {name}={value.strip()}; flag and value are joined by ="
    dashed = spelling.replace("_", "-")
    near = [dashed] if dashed in table.spellings else get_close_matches(dashed, table.spellings, n=1, cutoff=0.75)
    meant = f"; did you mean {near[0]}?" if near else "; `vllm serve --help=all` lists them"
    return f"{_shown(spelling)} is not a flag of vLLM v{table.version}{meant}"


def _identity(arg: str, table: FlagTable) -> str | None:
    """What two items must not both set: the flag, or one key of a JSON flag; None for what may repeat."""
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


def _is_json(value: str) -> bool:
    try:
        _parse_json(value)
    except ValueError:
        return False
    return True


def _parse_json(value: str) -> Any:
    """Read JSON as vLLM does: numbers outside of strings may have suffixes such as 80g. Raises ValueError.

    Policy looks at what this returns, so it must not fail where vLLM would not.
    """
    parts = re.split(r'("(?:[^"\\]|\\.)*")', value)
    parts[::2] = [re.sub(r"\b(\d+(?:\.\d+)?)[kKmMgGtT]\b", r"\1", part) for part in parts[::2]]
    return json.loads("".join(parts))


def _is_broken_json(value: str) -> bool:
    """Whether it looks like an object, so that vLLM would read it as JSON, and is none."""
    return bool(re.fullmatch(r"\s*{.*}\s*", value, re.DOTALL)) and not _is_json(value)


def parse_version(text: str | None) -> tuple[int, ...] | None:
    """`(0, 32, 0)` of a version or an image's tag such as `v0.32.0-cu129`; None if it does not tell."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in match.groups()) if match else None


@cache
def _tables() -> Mapping[tuple[int, ...], FlagTable]:
    """The newest version stands whole in the file, each older one as what differs from the next newer one."""
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
