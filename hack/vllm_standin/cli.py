"""The command line: vLLM's flags, of which the stand-in obeys those that matter to a deployment."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vllm_standin serve …`; returns the exit code."""
    args = _parser().parse_args(argv)
    from vllm_standin.server import Options, StartError, serve  # after the parsing, so that --help is quick

    names = args.served_model_name or [str(args.model_tag)]
    options = Options(
        model=Path(args.model_tag),
        host=args.host or "",
        port=args.port,
        served_names=names,
        middleware=args.middleware,
        api_keys=args.api_key or [],
        shutdown_timeout=args.shutdown_timeout,
        max_model_len=args.max_model_len,
        max_num_seqs=args.max_num_seqs,
        log_level=args.uvicorn_log_level,
        access_log=not args.disable_uvicorn_access_log,
        quiet_paths=frozenset((args.disable_access_log_for_endpoints or "").split(",")),
    )
    try:
        return serve(options)
    except StartError as error:
        print(f"vllm serve: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vllm serve: terminated while starting", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm")
    serve = parser.add_subparsers(dest="subparser", required=True).add_parser("serve")
    serve.add_argument("model_tag")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--middleware", action="append", default=[])
    serve.add_argument("--api-key", nargs="+")
    serve.add_argument("--shutdown-timeout", type=int, default=0)
    serve.add_argument("--max-model-len", type=int)
    serve.add_argument("--max-num-seqs", type=int, default=256)
    serve.add_argument("--uvicorn-log-level", default="info")
    serve.add_argument("--disable-uvicorn-access-log", action=argparse.BooleanOptionalAction, default=False)
    serve.add_argument("--disable-access-log-for-endpoints")
    return parser
