"""Start, serve, drain: the life cycle of one `vllm serve` process.

As in vLLM, the port is bound before the model loads, but listens only afterwards. SIGTERM drains for
`--shutdown-timeout` seconds while the server keeps accepting (`vllm/entrypoints/launchers/launcher.py`); after that it
waits for clients that never get an end. With `--api-server-count N`, N server processes share the socket, and the first
that fails ends all (`run_multi_api_server` in `vllm/entrypoints/cli/serve.py`); SIGTERM then drains nothing: each
leaves its engine at once, and is killed when the time is over. Here each has its own engine, so that each counts the
artifact's faults separately. docs/design/vllm.md describes how this was measured.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from vllm_standin import VLLM_VERSION
from vllm_standin.adapter import AdapterError, load_adapter, parse_module
from vllm_standin.api import MiddlewareError, make_app
from vllm_standin.engine import Engine, crash
from vllm_standin.metrics import Metrics
from vllm_standin.model import Model, ModelError, load_model

_LOG_FORMAT = "%(levelname)s %(asctime)s %(message)s"
_TEARDOWN_SECONDS = 1.0  # from idle to exit, while the server still listens; real vLLM takes three to seven


class StartError(Exception):
    """The server cannot start; the message says why."""


@dataclass(frozen=True)
class Options:
    """The values of the flags that have an effect here."""

    model: Path
    host: str
    port: int
    served_names: Sequence[str]
    middleware: Sequence[str]
    api_keys: Sequence[str]
    shutdown_timeout: int
    max_model_len: int | None
    max_num_seqs: int
    log_level: str
    access_log: bool
    quiet_paths: frozenset[str]
    fingerprint_mode: str
    fingerprint_value: str | None
    api_servers: int
    chat_template: str | None
    enable_lora: bool
    lora_modules: Sequence[str]
    max_lora_rank: int


def serve(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; returns the process's exit code. Raises StartError."""
    # While the model loads, SIGTERM ends the process at once, like vLLM's _interrupt_init.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _bind(options.host, options.port) as listener:
        model = _load(options)
        max_model_len = _max_model_len(options.max_model_len, model)
        print(f"Starting vLLM server on {_address(listener)}", flush=True)
        if options.api_servers == 1:
            _serve(options, listener, model, max_model_len)
            return 0
        lifeline = os.pipe()
        servers = [_forked(lifeline, options, listener, model, max_model_len) for _ in range(options.api_servers)]
        return _supervise(servers, options.shutdown_timeout)


def _serve(options: Options, listener: socket.socket, model: Model, max_model_len: int) -> None:
    """Run one server process until it is signalled."""
    metrics = Metrics(options.served_names[0], max_model_len)
    engine = Engine(model, metrics, options.max_num_seqs)
    try:
        app = make_app(
            model,
            engine,
            metrics,
            served_names=options.served_names,
            max_model_len=max_model_len,
            api_keys=options.api_keys,
            middleware=options.middleware,
            fingerprint=_fingerprint(options, model),
        )
    except MiddlewareError as error:
        raise StartError(str(error)) from None
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level=options.log_level,
        access_log=options.access_log,
        log_config=_log_config(options.quiet_paths),
        timeout_keep_alive=int(os.environ.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5")),
    )
    asyncio.run(_run(config, listener, engine, options, model))


def _forked(
    lifeline: tuple[int, int], options: Options, listener: socket.socket, model: Model, max_model_len: int
) -> int:
    """Fork a serving process, which ends when the writing end of the lifeline is closed; returns its pid."""
    process = os.fork()
    if process:
        return process
    os.close(lifeline[1])
    threading.Thread(target=lambda: os.read(lifeline[0], 1) or os._exit(1), daemon=True).start()
    code = 1
    try:
        _serve(options, listener, model, max_model_len)
        code = 0
    except StartError as error:
        print(f"vllm serve: error: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        code = 130
    finally:
        sys.stdout.flush()
        os._exit(code)  # the code above this call in the stack belongs to the parent


def _supervise(processes: list[int], shutdown_timeout: int) -> int:
    """Forward SIGTERM and SIGINT, and end all when one fails; returns the first exit code that is not 0."""
    living = set(processes)
    stopping = False

    def hand_on(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for process in living:
            os.kill(process, signal.SIGTERM)
        signal.alarm(max(1, shutdown_timeout))

    def kill(number: int, frame: object) -> None:
        print(f"[shutdown] Process manager: force killing remaining processes count={len(living)}", flush=True)
        for process in living:
            os.kill(process, signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    signal.signal(signal.SIGALRM, kill)
    worst = 0
    while living:
        process, status = os.wait()
        living.discard(process)
        code = os.waitstatus_to_exitcode(status)
        if code and not worst and not stopping:
            worst = code if code > 0 else 128 - code
            for other in living:
                os.kill(other, signal.SIGKILL)
    return worst


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no signal handlers: uvicorn's would stop accepting before the drain."""
        yield


async def _run(config: uvicorn.Config, listener: socket.socket, engine: Engine, options: Options, model: Model) -> None:
    server = _Server(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if model.faults.crash_after_seconds is not None:
        loop.call_later(
            model.faults.crash_after_seconds,
            crash,
            "EngineCore encountered a fatal error: crash_after_seconds",
            model.faults.exit_code,
        )

    async def drain() -> None:
        await stop.wait()
        timeout = options.shutdown_timeout
        mode = "drain" if timeout else "abort"
        print(f"[shutdown] API server: stopping engine client mode={mode} timeout={timeout}s", flush=True)
        if options.api_servers > 1:
            engine.kill()
        else:
            await engine.shutdown(timeout)
        if engine.drained:
            await asyncio.sleep(_TEARDOWN_SECONDS)
        server.should_exit = True

    draining = asyncio.create_task(drain())
    try:
        await server.serve(sockets=[listener])
    finally:
        draining.cancel()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"cannot bind {host or '0.0.0.0'}:{port}: {error.strerror}") from None
    return listener


def _address(listener: socket.socket) -> str:
    """The address on which the server listens, with the actual port for `--port 0`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _load(options: Options) -> Model:
    print(f"Starting to load model {options.model}...", flush=True)
    template = _chat_template(options.chat_template)
    try:
        model = load_model(options.model)
    except ModelError as error:
        raise StartError(f"cannot load the model: {error}") from None
    faults = model.faults
    if faults.never_ready:
        while True:
            time.sleep(3600)
    time.sleep(faults.load_seconds)
    if faults.oom:
        crash(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
            "79.15 GiB of which 1.12 GiB is free.",
            faults.exit_code,
        )
    if faults.crash_on_load:
        crash("RuntimeError: Engine core initialization failed. See root cause above.", faults.exit_code)
    print(f"Model loaded: {model.architecture}, weights {model.fingerprint}", flush=True)
    adapters = []
    try:
        for module in map(parse_module, options.lora_modules):
            adapters.append(load_adapter(module, options.max_lora_rank))
            print(f"Loaded new LoRA adapter: name '{module.name}', path '{module.path}'", flush=True)
    except AdapterError as error:
        raise StartError(str(error)) from None
    if adapters and not options.enable_lora:
        raise StartError("LoRA is not enabled. Use --enable-lora to enable LoRA.")
    return replace(model, adapters=tuple(adapters), template=template)


def _chat_template(value: str | None) -> str:
    """Prefix of the answers to chats: the Jinja comment `{# … #}` at the start of the template.

    As in vLLM, a value that is not a file is the template itself if it looks like one; otherwise the start fails.
    """
    if value is None:
        return ""
    try:
        text = Path(value).read_text(encoding="utf-8")
    except OSError as error:
        if not any(mark in value for mark in "{}\n"):
            raise StartError(
                f"The supplied chat template ({value}) looks like a file path, but it failed to be opened. "
                f"Reason: {error}"
            ) from None
        text = value
    comment = re.match(r"\s*{#(.*?)#}", text, re.DOTALL)
    return comment[1].strip() if comment else ""


def _max_model_len(asked: int | None, model: Model) -> int:
    if asked is None:
        return model.max_model_len
    if asked > model.max_model_len:
        raise StartError(
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={model.max_model_len} in model's config.json)."
        )
    return asked


def _fingerprint(options: Options, model: Model) -> str | None:
    """`system_fingerprint` according to `--fingerprint-mode`; the stand-in has no parallelism to include."""
    if options.fingerprint_mode == "custom":
        return options.fingerprint_value
    return None if options.fingerprint_mode == "none" else f"vllm-{VLLM_VERSION}-{model.fingerprint}"


def _log_config(quiet_paths: frozenset[str]) -> dict[str, object]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"quiet": {"()": "vllm_standin.server.QuietPaths", "paths": quiet_paths}},
        "formatters": {"plain": {"format": _LOG_FORMAT}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "plain"}},
        "loggers": {
            "uvicorn": {"handlers": ["stdout"], "level": "INFO", "propagate": False},
            "uvicorn.access": {"filters": ["quiet"]},
        },
    }


class QuietPaths:
    """The log filter for `--disable-access-log-for-endpoints`."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record of the access log; the path is uvicorn's third argument."""
        args = record.args
        path = str(args[2]).partition("?")[0] if isinstance(args, tuple) and len(args) > 2 else ""
        return path not in self._paths
