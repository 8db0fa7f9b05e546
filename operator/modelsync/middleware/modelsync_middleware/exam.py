"""The version's own exam in the pod: taken once after the load, and until it is passed the pod is not ready.

It reads `modelsync/golden.jsonl` in MODELSYNC_MODEL_DIR; without the file there is no exam. Of several server processes
of one container one takes it, under a lock that ends with the process, and leaves the verdict in MODELSYNC_STATE_DIR
for the others; without that folder each process takes its own. A verdict counts for one start of the container. An exam
that is failed, or cannot be read, must crash nothing: the reason is what `GET /modelsync/exam` and readiness say.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from .asgi import Ask, Receive, Scope, Send, send_json
from .golden import GOLDEN_FILE, MAX_BYTES, ExamError, Question, parse_exam
from .taking import Verdict, invalid, take

EXAM_PATH = "/modelsync/exam"
ANSWER_SECONDS = 120.0  # for one answer: a question may meet a shape that vLLM has not compiled yet


class Exam:
    """A check of readiness, and `GET /modelsync/exam`: how the exam stands."""

    def __init__(self) -> None:
        folder = os.environ.get("MODELSYNC_MODEL_DIR", "")
        self._file = Path(folder) / GOLDEN_FILE if folder else None
        self._model = next(iter(re.split(r"[,\s]+", os.environ.get("MODELSYNC_SERVED_NAMES", ""))), "")
        state = os.environ.get("MODELSYNC_STATE_DIR", "")
        self._shared = Path(state) if state and os.access(state, os.W_OK) else None
        self._running = False
        self._verdict: Verdict | None = None

    async def check(self, ask: Ask) -> str | None:
        """None when the exam is passed, or there is none; else why the pod is not ready. Takes it when it is due."""
        if self._known() is None and self._exists():
            await self._take(ask)
        verdict = self._known()
        if verdict is None:
            return "the exam is being taken by another server process" if self._exists() else None
        return None if verdict.state == "Passed" else f"the version's exam: {verdict.message}"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say how the exam stands: None (there is none), Pending, Running, Passed, Failed or Invalid."""
        if scope["method"] not in ("GET", "HEAD"):
            await send_json(send, 405, {"state": "", "message": "only GET is answered here"})
            return
        verdict = self._known()
        if verdict is not None:
            await send_json(send, 200, verdict.document())
            return
        state = "None" if not self._exists() else "Running" if self._running else "Pending"
        await send_json(send, 200, {"state": state})

    def _exists(self) -> bool:
        return self._file is not None and self._file.exists()

    def _known(self) -> Verdict | None:
        """The verdict, also one that another process has come to."""
        if self._verdict is None and self._shared is not None:
            try:
                self._verdict = Verdict.of(json.loads((self._shared / _verdict_name()).read_bytes()))
            except (OSError, ValueError, LookupError, TypeError):
                return None  # not there yet
        return self._verdict

    async def _take(self, ask: Ask) -> None:
        """Take the exam, unless another process does."""
        if self._shared is None:
            self._conclude(await self._sit(ask))
            return
        try:
            lock = os.open(self._shared / "exam.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            self._conclude(await self._sit(ask))
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            if self._known() is None:
                self._conclude(await self._sit(ask))
        finally:
            os.close(lock)

    async def _sit(self, ask: Ask) -> Verdict:
        async def post(path: str, body: Any) -> tuple[int | None, bytes]:
            return await ask("POST", path, dict(body), ANSWER_SECONDS)

        self._running = True
        try:
            questions = await asyncio.get_running_loop().run_in_executor(None, self._read)
            return await take(questions, post, self._model)
        except ExamError as error:
            return invalid(str(error))
        finally:
            self._running = False

    def _read(self) -> tuple[Question, ...]:
        """Raises ExamError, and OSError when the folder cannot be read."""
        if self._file is None or not self._file.is_file():
            raise ExamError("not a file")
        with self._file.open("rb") as file:
            return parse_exam(file.read(MAX_BYTES + 1))

    def _conclude(self, verdict: Verdict) -> None:
        self._verdict = verdict
        sys.stderr.write(
            f"modelsync: the version's exam: {verdict.state} after {verdict.seconds} s: {verdict.message}\n"
        )
        sys.stderr.flush()
        if self._shared is not None:
            path = self._shared / _verdict_name()
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                part.write_text(json.dumps(verdict.document()))
                os.replace(part, path)
            except OSError as error:  # the others will take it themselves
                sys.stderr.write(f"modelsync: the exam's verdict cannot be shared: {error}\n")


def _verdict_name() -> str:
    """Of this start of the container: all server processes of one have the same parent, or are alone."""
    parent = os.getppid()
    process = parent if parent else os.getpid()
    try:
        # Field 22 of proc_pid_stat(5); the second one may hold spaces and brackets.
        begun = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, LookupError):
        begun = "0"
    return f"exam-{process}-{begun}.json"
