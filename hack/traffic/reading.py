"""Determines the outcome of a request from its answer, independent of the transport. No I/O.

A request is `LOST` when its user got an incomplete answer without a valid reason: a status other than 200, a refused
or cut connection, a body that is not an answer, a stream without `[DONE]`, an error event inside a stream,
`finish_reason: abort` (vLLM ends answers that a drain cuts this way), or an answer whose `model` is not the revision in
its header. The middleware's 451, as a status or as an error event, is `REFUSED`. What happens to the connection after
the complete answer does not matter to its user and does not change the verdict.
"""

import json
from collections.abc import Mapping
from typing import Any

from traffic.answer import Answer, Outcome

REVISION_HEADER = "x-model-revision"
MOST_KEPT = 1 << 20
"""Maximum size of a body in bytes; the expected answers are far smaller."""


class Reading:
    """Reads one answer into an `Answer`: call `head`, then `data` for each chunk, then `end` or `broken`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._buffer = bytearray()
        self._finish: str | None = None
        self._model: str | None = None

    @property
    def started(self) -> bool:
        """Whether any part of the answer has arrived."""
        return self._answer.status is not None

    @property
    def judged(self) -> bool:
        """Whether there is a verdict, which later data cannot change."""
        return self._answer.outcome is not None

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the status and the headers, with lower-case names or case-insensitive."""
        self._answer.status = status
        self._answer.revision = headers.get(REVISION_HEADER)

    def data(self, part: bytes, now: float) -> None:
        """Take bytes of the body that arrived at `now`."""
        if self.judged or not part:
            return
        answer = self._answer
        self._buffer += part
        if len(self._buffer) > MOST_KEPT:
            self._judge(Outcome.LOST, f"more than {MOST_KEPT} bytes that are not an answer")
        elif answer.stream and answer.status == 200:
            *lines, rest = bytes(self._buffer).split(b"\n")
            self._buffer[:] = rest
            for line in lines:
                self._line(line.strip(), now)
                if self.judged:
                    return
        elif answer.status == 200:
            answer.first_byte, answer.last_byte = answer.first_byte or now, now

    def end(self, now: float) -> None:
        """Take the regular end of the body."""
        if self.judged:
            return
        status, body = self._answer.status, bytes(self._buffer)
        if status == 451:
            self._judge(Outcome.REFUSED, "")
        elif status == 503 and self._answer.revision is None:
            self._judge(Outcome.BLOCKED, _text(body))
        elif status != 200:
            self._judge(Outcome.LOST, f"status {status}: {_text(body)}")
        elif self._answer.stream:
            self._line(body.strip(), now)
            if not self.judged:
                self._judge(Outcome.LOST, "the stream ended without [DONE]")
        else:
            self._whole(body)

    def broken(self, why: str) -> None:
        """Take the failure of the connection or of this stream."""
        if not self.judged:
            self._judge(Outcome.LOST, why)

    def _whole(self, body: bytes) -> None:
        payload = _object(body)
        choices = payload.get("choices") if payload else None
        if payload is None or not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            self._judge(Outcome.LOST, f"no answer: {_text(body)}")
            return
        self._model, self._finish = payload.get("model"), choices[0].get("finish_reason")
        self._conclude()

    def _line(self, line: bytes, now: float) -> None:
        if not line.startswith(b"data:"):
            return
        event = line.removeprefix(b"data:").strip()
        if event == b"[DONE]":
            self._conclude()
            return
        payload = _object(event)
        if payload is None:
            self._judge(Outcome.LOST, f"an event that is not a JSON object: {_text(event)}")
            return
        if "error" in payload:
            error = payload["error"]
            held = isinstance(error, dict) and str(error.get("code")) == "451"
            self._judge(Outcome.REFUSED if held else Outcome.LOST, f"error event: {error}")
            return
        # Only now: the refusing event is not a byte from the held version.
        self._answer.first_byte, self._answer.last_byte = self._answer.first_byte or now, now
        self._model = payload.get("model", self._model)
        for choice in payload.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish

    def _conclude(self) -> None:
        revision = self._answer.revision
        if self._finish == "abort":
            self._judge(Outcome.LOST, "finish_reason abort")
        elif self._finish is None:
            self._judge(Outcome.LOST, "the answer ended without a finish_reason")
        elif self._model is None or revision is None or not str(self._model).endswith(f"@{revision}"):
            self._judge(Outcome.LOST, f"the answer says model {self._model!r}, its header revision {revision!r}")
        else:
            self._judge(Outcome.OK, "")

    def _judge(self, outcome: Outcome, detail: str) -> None:
        self._answer.outcome, self._answer.detail = outcome, detail


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _text(raw: bytes) -> str:
    return raw[:200].decode(errors="replace")
