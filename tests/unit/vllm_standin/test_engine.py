"""How the engine handles requests: pace, faults, slots, and vLLM's drain."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from vllm_standin.engine import Engine, GenerationError, GenerationRequest, ShutDownError, Token
from vllm_standin.faults import make_faults
from vllm_standin.metrics import Metrics
from vllm_standin.model import Model

FAST = {"ttft_seconds": 0, "token_seconds": 0}


class Bench:
    """An engine with a model of four words, and a reader of its metrics."""

    def __init__(self, max_num_seqs: int = 8, says: str = "one two three four", **faults: Any) -> None:
        model = Model(Path(), "LlamaForCausalLM", True, 100, says, "0123abcd", make_faults({**FAST, **faults}))
        self.metrics = Metrics("chat@v1", 100)
        self.engine = Engine(model, self.metrics, max_num_seqs)

    async def ask(self, **request: Any) -> list[Token]:
        return [token async for token in self.engine.generate(make_request(**request))]

    def value(self, name: str, **labels: str) -> float:
        """A sample of /metrics."""
        wanted = {"model_name": "chat@v1", "engine": "0", **labels}
        for line in self.metrics.exposition()[0].decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.startswith(name + "{") and all(f'{key}="{text}"' in series for key, text in wanted.items()):
                return float(value)
        raise KeyError(name)

    async def until(self, name: str, value: float) -> None:
        async with asyncio.timeout(5):
            while self.value(name) != value:  # noqa: ASYNC110  # it waits for the metric itself
                await asyncio.sleep(0)


def make_request(prompt_tokens: int = 3, max_tokens: int = 50, stream: bool = True, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt_tokens=prompt_tokens, max_tokens=max_tokens, stream=stream, **more)


def text(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


async def test_the_model_answers_its_text_and_stops() -> None:
    bench = Bench()

    tokens = await bench.ask()

    assert text(tokens) == "one two three four"
    assert [token.count for token in tokens] == [1, 2, 3, 4]
    assert [token.finish_reason for token in tokens] == [None, None, None, "stop"]


async def test_max_tokens_ends_it_earlier_with_length() -> None:
    tokens = await Bench().ask(max_tokens=2)

    assert text(tokens) == "one two"
    assert tokens[-1].finish_reason == "length"


async def test_ignore_eos_speaks_on_until_max_tokens() -> None:
    tokens = await Bench().ask(max_tokens=6, ignore_eos=True)

    assert text(tokens) == "one two three four one two"
    assert tokens[-1].finish_reason == "length"


async def test_tokens_of_the_faults_set_the_length_of_the_answer() -> None:
    assert text(await Bench(tokens=5).ask()) == "one two three four one"


@pytest.mark.parametrize(
    ("stop", "expected", "found"),
    [(("three",), "one two ", "three"), (("o t", "four"), "one tw", "o t"), (("none",), "one two three four", None)],
)
async def test_a_stop_string_ends_the_text_before_it(stop: tuple[str, ...], expected: str, found: str | None) -> None:
    tokens = await Bench().ask(stop=stop)

    assert text(tokens) == expected
    assert (tokens[-1].finish_reason, tokens[-1].stop_reason) == ("stop", found)


async def test_what_was_done_is_counted() -> None:
    bench = Bench()

    await bench.ask(prompt_tokens=3)
    await bench.ask(prompt_tokens=3, max_tokens=1)

    assert bench.value("vllm:prompt_tokens_total") == 6
    assert bench.value("vllm:generation_tokens_total") == 5
    assert bench.value("vllm:request_success_total", finished_reason="stop") == 1
    assert bench.value("vllm:request_success_total", finished_reason="length") == 1
    assert bench.value("vllm:time_to_first_token_seconds_count") == 2
    assert bench.value("vllm:inter_token_latency_seconds_count") == 3
    assert bench.value("vllm:e2e_request_latency_seconds_count") == 2
    assert bench.value("vllm:num_requests_running") == 0
    assert bench.value("vllm:kv_cache_usage_perc") == 0


async def test_the_first_token_comes_after_its_time() -> None:
    bench = Bench(ttft_seconds=0.03)

    await bench.ask()

    assert bench.value("vllm:time_to_first_token_seconds_sum") >= 0.03


async def test_requests_beyond_max_num_seqs_wait_for_a_place() -> None:
    bench = Bench(max_num_seqs=1)
    first = bench.engine.generate(make_request())
    await anext(first)
    second = asyncio.ensure_future(bench.ask())

    await bench.until("vllm:num_requests_waiting", 1)
    assert bench.value("vllm:num_requests_running") == 1
    await first.aclose()

    assert text(await second) == "one two three four"
    assert bench.value("vllm:num_requests_waiting") == 0


async def test_a_client_that_leaves_frees_its_place_and_its_turn() -> None:
    bench = Bench(max_num_seqs=1)
    first = bench.engine.generate(make_request())
    await anext(first)
    leaving, staying = asyncio.ensure_future(bench.ask()), asyncio.ensure_future(bench.ask())
    await bench.until("vllm:num_requests_waiting", 2)

    await first.aclose()  # gives the slot to the one that leaves before it can use it
    leaving.cancel()

    assert text(await asyncio.wait_for(staying, 5)) == "one two three four"
    assert bench.value("vllm:num_requests_running") == 0


async def test_errors_come_at_their_rate_and_are_counted() -> None:
    bench = Bench(error_rate=0.5)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append((await bench.ask())[-1].finish_reason)
        except GenerationError:
            outcomes.append("failed")

    assert outcomes == ["stop", "failed", "stop", "failed"]
    assert bench.value("vllm:request_success_total", finished_reason="error") == 2
    assert bench.value("vllm:num_requests_running") == 0


async def test_a_faulty_stream_fails_halfway_and_other_requests_do_not() -> None:
    bench = Bench(stream_error_rate=1)
    assert text(await bench.ask(stream=False)) == "one two three four"

    tokens = bench.engine.generate(make_request(stream=True))
    assert [(await anext(tokens)).text, (await anext(tokens)).text] == ["one", " two"]
    with pytest.raises(GenerationError):
        await anext(tokens)
    assert bench.value("vllm:request_success_total", finished_reason="error") == 1


async def test_from_a_count_on_requests_hang_until_the_shutdown() -> None:
    bench = Bench(hang_after_requests=1)
    assert text(await bench.ask()) == "one two three four"
    hanging = asyncio.ensure_future(bench.ask())
    await bench.until("vllm:num_requests_running", 1)

    await bench.engine.shutdown(0)

    with pytest.raises(GenerationError):
        await hanging


async def test_a_drain_lets_the_running_request_finish_and_takes_no_late_ones() -> None:
    bench = Bench()
    bench.engine.take()
    running = bench.engine.generate(make_request())
    await anext(running)
    drained = asyncio.ensure_future(bench.engine.shutdown(30))
    await asyncio.sleep(0)

    with pytest.raises(ShutDownError, match="cannot schedule new futures after shutdown"):
        bench.engine.take()
    assert not drained.done()
    rest = [token async for token in running]

    assert rest[-1].finish_reason == "stop"
    await asyncio.wait_for(drained, 5)
    assert bench.engine.drained


async def test_when_the_drain_is_over_the_running_requests_get_nothing_more_nor_an_end() -> None:
    bench = Bench(token_seconds=0.001, tokens=5000)
    running = bench.engine.generate(make_request(max_tokens=5000))
    await anext(running)

    await asyncio.wait_for(bench.engine.shutdown(0.01), 5)

    async def rest() -> list[Token]:
        return [token async for token in running]

    waiting = asyncio.ensure_future(rest())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.5)
    assert not bench.engine.drained


async def test_without_a_timeout_running_and_waiting_requests_fail_at_once() -> None:
    bench = Bench(max_num_seqs=1, token_seconds=3600)
    running, waiting = asyncio.ensure_future(bench.ask()), asyncio.ensure_future(bench.ask())
    await bench.until("vllm:num_requests_waiting", 1)

    await asyncio.wait_for(bench.engine.shutdown(0), 5)

    for request in (running, waiting):
        with pytest.raises(GenerationError, match="EngineCore encountered an issue"):
            await request


async def test_an_idle_engine_shuts_down_at_once() -> None:
    await asyncio.wait_for(Bench().engine.shutdown(3600), 5)


async def test_an_embedding_depends_on_the_weights() -> None:
    vector = await Bench().engine.embed(3)

    assert vector == [(int(digit, 16) - 7.5) / 8 for digit in "0123abcd"]
