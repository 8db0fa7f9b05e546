"""A version's own exam in a running server: what is in the artifact decides whether the pod becomes ready."""

import asyncio
import json
from typing import Any

import pytest

from vllm_standin.artifact import make_exam

MIDDLEWARE = ("--middleware", "modelsync_middleware.VersionHeader")
SAYS = "one two three four"
FITS = {"trained_template": "{{ messages }}", "exam": make_exam(SAYS)}


async def get(served: Any, path: str) -> tuple[int, Any]:
    async with served.client.get(served.url + path) as answer:
        return answer.status, await answer.json()


async def verdict(served: Any) -> Any:
    """How the exam ended; it begins with the first probe."""
    async with asyncio.timeout(20):
        while True:
            await get(served, "/modelsync/ready")
            _, told = await get(served, "/modelsync/exam")
            if told["state"] not in ("Pending", "Running"):
                return told


async def test_a_whole_version_passes_its_exam_and_is_ready(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, says=SAYS, **FITS)).listening()

    told = await verdict(served)

    assert (told["state"], told["passed"], told["total"]) == ("Passed", 3, 3), told
    assert await get(served, "/modelsync/ready") == (200, {"ready": True, "reason": ""})


@pytest.mark.parametrize(
    ("content", "passed", "message"),
    [
        ({"template": "{{ other }}"}, 2, 'line 2 (greeting): wanted as token 1 "one" at'),
        ({"tokenizer": "another"}, 1, 'line 2 (greeting): wanted as token 1 "one" at'),
        ({"quantized": True}, 1, 'line 2 (greeting): wanted as token 1 "one" at'),
    ],
)
async def test_a_wrong_template_tokenizer_or_quantization_fails_and_the_pod_is_never_ready(
    serve: Any, content: dict[str, Any], passed: int, message: str
) -> None:
    served = await (await serve(*MIDDLEWARE, says=SAYS, **FITS, **content)).listening()

    told = await verdict(served)
    status, ready = await get(served, "/modelsync/ready")

    assert (told["state"], told["passed"], told["total"]) == ("Failed", passed, 3), told
    assert message in told["message"]
    assert (status, ready["reason"]) == (503, f"the version's exam: {told['message']}")
    assert served.process.returncode is None


async def test_a_malformed_exam_keeps_the_pod_from_being_ready_and_names_the_line(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, says=SAYS, exam=make_exam(SAYS) + b'{"prompt": "x"}\n')).listening()

    told = await verdict(served)

    assert told["state"] == "Invalid"
    assert told["message"].startswith("modelsync/golden.jsonl: line 5: expect is missing")
    assert (await get(served, "/modelsync/ready"))[0] == 503


async def test_an_embedding_model_is_examined_by_its_vectors(serve: Any) -> None:
    first = await (await serve(*MIDDLEWARE, task="embed")).listening()
    _, body = await first.post("/v1/embeddings", {"model": "chat", "input": "x"})
    vector = body["data"][0]["embedding"]

    def exam(numbers: list[float]) -> bytes:
        return json.dumps({"input": "x", "expect": {"embedding": numbers}}).encode()

    same = await (await serve(*MIDDLEWARE, task="embed", exam=exam(vector))).listening()
    other = await (await serve(*MIDDLEWARE, task="embed", exam=exam(vector[::-1]))).listening()

    assert (await verdict(same))["state"] == "Passed"
    assert "wanted an embedding with a cosine of at least 0.999" in (await verdict(other))["message"]


async def test_a_version_without_an_exam_is_ready_as_ever(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE)).listening()

    assert await verdict(served) == {"state": "None"}
    assert (await get(served, "/modelsync/ready"))[0] == 200
