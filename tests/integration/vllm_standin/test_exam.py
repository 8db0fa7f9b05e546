"""A version's own exam in a running server: the artifact's content decides whether the pod becomes ready."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from vllm_standin.artifact import make_exam

ROOT = Path(__file__).resolve().parents[3]
MIDDLEWARE = ("--middleware", "modelsync_middleware.VersionHeader")
SAYS = "one two three four"
FITS = {"trained_template": "{{ messages }}", "exam": make_exam(SAYS)}


async def get(served: Any, path: str) -> tuple[int, Any]:
    async with served.client.get(served.url + path) as answer:
        return answer.status, await answer.json()


async def verdict(served: Any) -> Any:
    """The exam's verdict; the exam starts with the first probe."""
    async with asyncio.timeout(20):
        while True:
            await get(served, "/modelsync/ready")
            _, result = await get(served, "/modelsync/exam")
            if result["state"] not in ("Pending", "Running"):
                return result


async def test_a_whole_version_passes_its_exam_and_is_ready(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, says=SAYS, **FITS)).listening()

    result = await verdict(served)

    assert (result["state"], result["passed"], result["total"]) == ("Passed", 3, 3), result
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

    result = await verdict(served)
    status, ready = await get(served, "/modelsync/ready")

    assert (result["state"], result["passed"], result["total"]) == ("Failed", passed, 3), result
    assert message in result["message"]
    assert (status, ready["reason"]) == (503, f"the version's exam: {result['message']}")
    assert served.process.returncode is None


async def test_a_malformed_exam_keeps_the_pod_from_being_ready_and_names_the_line(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, says=SAYS, exam=make_exam(SAYS) + b'{"prompt": "x"}\n')).listening()

    result = await verdict(served)

    assert result["state"] == "Invalid"
    assert result["message"].startswith("modelsync/golden.jsonl: line 5: expect is missing")
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


async def modelsync(*args: str, given: str = "") -> tuple[int, str, str]:
    """Run the command; return its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "modelsync",
        "exam",
        *args,
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(given.encode())
    return process.returncode or 0, output.decode(), errors.decode()


async def test_what_was_recorded_of_a_good_server_passes_there_and_fails_on_a_worse_one(
    serve: Any, tmp_path: Path
) -> None:
    good = await (await serve(says=SAYS)).listening()
    worse = await (await serve(says=SAYS, quantized=True)).listening()
    prompts = 'Who are you?\n\n{"prompt": "I am", "name": "words"}\n{"prompt": "I", "expect": {"contains": "one"}}\n'

    code, recorded, errors = await modelsync("record", good.url, "--prompts", "-", given=prompts)
    assert code == 0, errors
    assert "recorded 3 questions (of at most 200) from chat@v7-3fa9c1d2" in errors
    header, chat, words, own = (json.loads(line) for line in recorded.splitlines())
    assert header == {"exam": 1, "tolerance": 0.2}
    assert chat["messages"] == [{"role": "user", "content": "Who are you?"}]
    assert [next(iter(position)) for position in chat["expect"]["tokens"]] == ["one", " two", " three", " four"]
    assert all(len(position) == 3 for position in words["expect"]["tokens"])
    assert own == {"prompt": "I", "expect": {"contains": "one"}, "max_tokens": 16}

    file = tmp_path / "golden.jsonl"
    file.write_text(recorded)
    code, output, _ = await modelsync("check", good.url, str(file))
    assert (code, output.splitlines()[-1][:46]) == (0, "passed: 3 of 3 answers of chat@v7-3fa9c1d2 are")
    code, output, _ = await modelsync("check", worse.url, str(file))
    assert code == 1
    assert output.splitlines()[0].startswith('line 2: wanted as token 1 "one" at -0.')
    assert output.splitlines()[1].startswith('line 3 (words): wanted as token 1 "one" at -0.')
    assert output.splitlines()[-1].startswith("failed: 1 of 3 answers")
    code, output, _ = await modelsync("check", worse.url, str(file), "-o", "json")
    verdict = json.loads(output)
    assert (code, verdict["state"], verdict["passed"], verdict["total"]) == (1, "Failed", 1, 3)
    assert [mistake["line"] for mistake in verdict["mistakes"]] == [2, 3]


async def test_an_embedding_can_be_recorded(serve: Any, tmp_path: Path) -> None:
    served = await (await serve(task="embed")).listening()

    code, recorded, errors = await modelsync("record", served.url, "--prompts", "-", given='{"input": "cat"}\n')
    assert code == 0, errors
    (tmp_path / "golden.jsonl").write_text(recorded)

    assert (await modelsync("check", f"{served.url}/v1", str(tmp_path / "golden.jsonl")))[0] == 0


@pytest.mark.parametrize(
    ("args", "given", "code", "message"),
    [
        (("record", "URL", "--prompts", "-"), "", 2, "no questions found; write one text per line"),
        (("record", "URL", "--prompts", "-"), "{\n", 2, "line 1: starts with { but is not JSON"),
        (("record", "URL", "--prompts", "-"), '{"promt": "x"}', 2, "line 1: promt is unknown; allowed are name"),
        (("record", "URL", "--prompts", "-"), '{"input": "x"}', 1, "line 1: the server returned HTTP 404"),
        (("record", "URL", "--prompts", "-", "--model", "other"), "x", 1, "The model `other` does not exist"),
        (("record", "ftp://x", "--prompts", "-"), "x", 4, "'ftp://x' is not the URL of a server"),
        (("check", "http://127.0.0.1:1", "-"), '{"prompt": "x", "expect": {"equals": "y"}}', 4, "cannot be reached"),
        (("check", "URL", "-"), '{"prompt": "x"}', 2, "line 1: expect is missing"),
    ],
)
async def test_an_unsupported_request_is_reported_with_what_to_do(
    served: Any, args: tuple[str, ...], given: str, code: int, message: str
) -> None:
    found, _, errors = await modelsync(*(served.url if arg == "URL" else arg for arg in args), given=given)

    assert found == code, errors
    assert message in errors
    assert "Traceback" not in errors


async def test_of_several_server_processes_one_takes_the_exam_and_all_wait_for_it(serve: Any) -> None:
    served = await (await serve(*MIDDLEWARE, "--api-server-count=3", says=SAYS, **FITS)).listening()

    assert (await verdict(served))["state"] == "Passed"
    for _ in range(12):  # a new connection each: any process may answer
        async with aiohttp.ClientSession() as client, client.get(served.url + "/modelsync/exam") as answer:
            assert (await answer.json())["state"] == "Passed"
        async with aiohttp.ClientSession() as client, client.get(served.url + "/modelsync/ready") as answer:
            assert answer.status == 200
    assert len([line for line in served.output if "the version's exam: Passed" in line]) == 1
