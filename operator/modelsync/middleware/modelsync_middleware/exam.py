"""The version's own exam in the pod: taken once after the model is loaded; the pod is not ready until it has passed.

It reads `modelsync/golden.jsonl` in MODELSYNC_MODEL_DIR; without the file there is no exam. With several server
processes one of them takes it, the one that readiness lets query the model, and shares the verdict with the others. The
verdict is valid while one of them lives: a restarted container takes the exam again. A failed or unreadable exam must
never crash the server: `GET /modelsync/exam` and readiness return the reason.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

from .asgi import Ask, Receive, Scope, Send, send_json
from .exam_format import GOLDEN_FILE, MAX_BYTES, ExamError, Question, parse_exam
from .exam_runner import Verdict, invalid, take
from .shared_state import SharedState

EXAM_PATH = "/modelsync/exam"
ANSWER_SECONDS = 120.0  # for one answer: a question may have a shape that vLLM has not compiled yet

_RUNNING = {"state": "Running"}


class Exam:
    """A readiness check, and `GET /modelsync/exam`: the exam's state."""

    def __init__(self, shared: SharedState) -> None:
        folder = os.environ.get("MODELSYNC_MODEL_DIR", "")
        self._file = Path(folder) / GOLDEN_FILE if folder else None
        self._model = next(iter(re.split(r"[,\s]+", os.environ.get("MODELSYNC_SERVED_NAMES", ""))), "")
        self._shared = shared
        self._verdict: Verdict | None = None

    async def check(self, ask: Ask) -> str | None:
        """Take the exam if needed. None if it has passed, or there is none; otherwise why the pod is not ready.

        Readiness calls this in one process at a time.
        """
        if not self._exists():
            return None
        verdict = self._known()
        if verdict is None:
            verdict = self._verdict = await self._take(ask)
            self._shared.publish(exam=verdict.document())
            result = f"{verdict.state} after {verdict.seconds} s: {verdict.message}"
            sys.stderr.write(f"modelsync: the version's exam: {result}\n")
            sys.stderr.flush()
        return None if verdict.state == "Passed" else f"the version's exam: {verdict.message}"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the exam's state: None (there is none), Pending, Running, Passed, Failed or Invalid."""
        if scope["method"] not in ("GET", "HEAD"):
            await send_json(send, 405, {"state": "", "message": "only GET is allowed"})
            return
        verdict = self._known()
        if verdict is not None:
            await send_json(send, 200, verdict.document())
        elif not self._exists():
            await send_json(send, 200, {"state": "None"})
        else:
            runs = any(process.get("exam") == _RUNNING for process in self._shared.published())
            await send_json(send, 200, _RUNNING if runs else {"state": "Pending"})

    def _exists(self) -> bool:
        return self._file is not None and self._file.exists()

    def _known(self) -> Verdict | None:
        """This process's verdict, or one shared by another process; None if there is none yet."""
        if self._verdict is None:
            self._verdict = next(filter(None, map(_verdict_of, self._shared.published())), None)
        return self._verdict

    async def _take(self, ask: Ask) -> Verdict:
        async def post(path: str, body: Any) -> tuple[int | None, bytes]:
            return await ask("POST", path, dict(body), ANSWER_SECONDS)

        self._shared.publish(exam=_RUNNING)
        try:
            questions = await asyncio.get_running_loop().run_in_executor(None, self._read)
            return await take(questions, post, self._model)
        except ExamError as error:
            return invalid(str(error))
        finally:
            self._shared.publish(exam=None)

    def _read(self) -> tuple[Question, ...]:
        """Read the exam. Raises ExamError, and OSError when the folder cannot be read."""
        if self._file is None or not self._file.is_file():
            raise ExamError("not a file")
        with self._file.open("rb") as file:
            return parse_exam(file.read(MAX_BYTES + 1))


def _verdict_of(process: dict[str, Any]) -> Verdict | None:
    """The verdict that a process has shared, or None."""
    try:
        return Verdict.of(process["exam"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return None
