"""The command line of `vllm serve`: vLLM's flags from the operator's table, parsed as leniently as vLLM does.

Flags that change how a deployment behaves take effect; flags whose effect would be missed are refused; the rest (they
tune what the stand-in does not have) are accepted and logged. Unknown flags are an argparse error, as in vLLM.
"""

import argparse
import atexit
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_standin import VLLM_VERSION

_OBEYED = frozenset(
    {
        "--api-server-count",
        "--model",
        "--host",
        "--port",
        "--served-model-name",
        "--middleware",
        "--api-key",
        "--shutdown-timeout",
        "--max-model-len",
        "--max-num-seqs",
        "--uvicorn-log-level",
        "--disable-uvicorn-access-log",
        "--disable-access-log-for-endpoints",
        "--fingerprint-mode",
        "--fingerprint-value",
        "--chat-template",
        "--enable-lora",
        "--lora-modules",
        "--max-lora-rank",
    }
)
_NOT_HERE = frozenset(
    {
        "--config",
        "--grpc",
        "--grpc-port",
        "--headless",
        "--hf-config-path",
        "--root-path",
        "--speculative-config",
        "--ssl-ca-certs",
        "--ssl-certfile",
        "--ssl-keyfile",
        "--tokenizer",
        "--tokens-only",
        "--uds",
    }
)
_HUMAN = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vllm_standin serve …`; returns the exit code, 2 for an invalid command line."""
    table = read_table()
    parser = _parser(table)
    args = parser.parse_args(normalized(sys.argv[1:] if argv is None else argv, table))
    given = {name: value for name, value in vars(args).items() if value is not None and name.startswith("--")}
    if missing := sorted(_NOT_HERE & given.keys()):
        parser.error(f"{missing[0]}: the stand-in does not implement this flag; remove it")
    if ignored := sorted(given.keys() - _OBEYED):
        print(f"Flags without effect in the stand-in: {', '.join(ignored)}", flush=True)
    model = args.model_tag or given.get("--model")
    if model is None:
        parser.error("give the folder of the model: vllm serve DIR …")

    api_servers = given.get("--api-server-count", 1)
    if api_servers < 1:
        parser.error("--api-server-count: a server process at least is needed")
    if api_servers > 1:
        share_metrics()

    from vllm_standin.server import Options, StartError, serve  # after parsing, so that a wrong flag fails quickly

    options = Options(
        model=Path(model),
        host=given.get("--host", ""),
        port=given.get("--port", 8000),
        served_names=given.get("--served-model-name", [model]),
        middleware=given.get("--middleware", []),
        api_keys=given.get("--api-key", []),
        shutdown_timeout=given.get("--shutdown-timeout", 0),
        max_model_len=given.get("--max-model-len"),
        max_num_seqs=given.get("--max-num-seqs", 256),
        log_level=given.get("--uvicorn-log-level", "info"),
        access_log=not given.get("--disable-uvicorn-access-log", False),
        quiet_paths=frozenset(given.get("--disable-access-log-for-endpoints", "").split(",")),
        fingerprint_mode=given.get("--fingerprint-mode", "full"),
        fingerprint_value=given.get("--fingerprint-value"),
        api_servers=api_servers,
        chat_template=given.get("--chat-template"),
        enable_lora=given.get("--enable-lora", False),
        lora_modules=given.get("--lora-modules", []),
        max_lora_rank=given.get("--max-lora-rank", 16),
    )
    try:
        return serve(options)
    except StartError as error:
        print(f"vllm serve: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vllm serve: terminated while starting", file=sys.stderr)
        return 130


def share_metrics() -> None:
    """Make every child process report the metrics of all, as vLLM's setup_multiprocess_prometheus does.

    prometheus_client looks for the folder when it is imported, so this must run first.
    """
    folder = tempfile.TemporaryDirectory(prefix="vllm-standin-")
    atexit.register(folder.cleanup)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name


def read_table() -> Mapping[str, Mapping[str, Any]]:
    """The flags of the imitated vLLM: flag → its kind of value, as `hack/generate/vllm_flags.py` describes.

    modelsync is located but not imported: this process must start fast and needs nothing else from it.
    """
    spec = importlib.util.find_spec("modelsync")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("vllm_standin needs the table of flags from modelsync; add operator/ to PYTHONPATH")
    path = Path(spec.submodule_search_locations[0]) / "policy" / "vllm_flags.json"
    table: Mapping[str, Mapping[str, Any]] = json.loads(path.read_bytes())[VLLM_VERSION]
    return table


def normalized(argv: Sequence[str], table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`argv` normalized as by vLLM's FlexibleArgumentParser.

    Underscores in names become dashes, `-O3` becomes `--optimization-level 3`, and keys of a JSON flag given one by one
    (`--compilation-config.mode=3`) become one JSON value.
    """
    plain: list[str] = []
    keys: dict[str, dict[str, str]] = {}
    items = iter(argv)
    for item in items:
        name, equals, value = item.partition("=")
        flag, dot, key = name.partition(".")
        if not item.startswith("--"):
            plain += ["--optimization-level", item[2:].lstrip("=")] if re.match(r"-O.", item) else [item]
        elif dot and table.get(flag.replace("_", "-"), {}).get("type", "").startswith("json"):
            keys.setdefault(flag.replace("_", "-"), {})[key] = value if equals else next(items, "")
        else:
            plain.append(flag.replace("_", "-") + dot + key + equals + value)
    return plain + [part for flag, value in keys.items() for part in (flag, json.dumps(value))]


def _parser(table: Mapping[str, Mapping[str, Any]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm", description="A stand-in for vLLM.")
    serve = parser.add_subparsers(dest="subparser", required=True, metavar="serve").add_parser("serve")
    serve.add_argument("model_tag", nargs="?")
    for name, flag in table.items():
        names = [*(alias for alias in flag.get("aliases", []) if not alias.startswith("--")), name]
        names += [alias for alias in flag.get("aliases", []) if alias.startswith("--")]
        serve.add_argument(*names, dest=name, default=None, **_kwargs(flag))
    return parser


def _kwargs(flag: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `add_argument` for a flag."""
    if flag["takes"] == "nothing":
        return {"action": argparse.BooleanOptionalAction if flag.get("no") else "store_true"}
    if flag["takes"] == "optional":
        return {"nargs": "?", "const": True}
    if flag.get("repeats"):
        return {"action": "append"}
    return {
        "type": _converter(flag),
        "nargs": "+" if flag.get("many") else None,
        "metavar": "VALUE",
        **({"choices": [*flag["choices"], None]} if "choices" in flag and not flag.get("fold") else {}),
    }


def _converter(flag: Mapping[str, Any]) -> Any:
    kind = flag["type"]

    def convert(text: str) -> Any:
        if flag.get("none") and text in ("", "None"):
            return None
        if kind == "human-int-or-auto" and text.lower() in ("-1", "auto"):
            return None
        if kind.startswith("human-int") and text[-1:] in _HUMAN:
            return int(float(text[:-1]) * _HUMAN[text[-1]])
        if kind == "int" or kind.startswith("human-int"):
            return int(text)
        return float(text) if kind == "float" else text

    convert.__name__ = kind  # for argparse's message: invalid int value: 'x'
    return convert
