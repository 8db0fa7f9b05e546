"""The Prometheus series that vLLM 0.32 publishes, with its names, labels and buckets.

Only metrics that the stand-in really counts; names and buckets are from `vllm/v1/metrics/loggers.py` and `buckets.py`,
the HTTP ones from prometheus-fastapi-instrumentator, which vLLM uses with its defaults.
"""

import os
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")

_TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
                 80.0, 160.0, 640.0, 2560.0)  # fmt: skip
_INTER_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
                        40.0, 80.0)  # fmt: skip
_REQUEST_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
                    480.0, 960.0, 1920.0, 7680.0)  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """When a request reached each stage, in seconds of one monotonic clock."""

    arrived: float
    scheduled: float
    first_token: float
    finished: float


class Metrics:
    """All series of one server; `model_name` is the first served name, as in vLLM."""

    def __init__(self, model_name: str, max_model_len: int) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        tokens = _one_two_five(max_model_len)
        self.running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self.waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self.kv_cache_usage = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self.prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self.generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        self._counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            [*self._labels, "finished_reason"],
            registry=self._registry,
        )
        for reason in FINISHED_REASONS:
            self._success.labels(**self._labels, finished_reason=reason)
        self._ttft = self._histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", _TTFT_BUCKETS
        )
        self._inter_token = self._histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _INTER_TOKEN_BUCKETS
        )
        self._per_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            _INTER_TOKEN_BUCKETS,
        )
        self._e2e = self._histogram(
            "e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _REQUEST_BUCKETS
        )
        self._queue = self._histogram(
            "request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", _REQUEST_BUCKETS
        )
        self._inference = self._histogram(
            "request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", _REQUEST_BUCKETS
        )
        self._prefill = self._histogram(
            "request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", _REQUEST_BUCKETS
        )
        self._decode = self._histogram(
            "request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", _REQUEST_BUCKETS
        )
        self._request_prompt = self._histogram("request_prompt_tokens", "Number of prefill tokens processed.", tokens)
        self._request_generation = self._histogram(
            "request_generation_tokens", "Number of generation tokens processed.", tokens
        )
        self._http = Counter(
            "http_requests",
            "Total number of requests by method, status and handler.",
            ["method", "status", "handler"],
            registry=self._registry,
        )
        self._http_duration = Histogram(
            "http_request_duration_seconds",
            "Duration of HTTP requests in seconds, by handler and method.",
            ["method", "handler"],
            buckets=(0.1, 0.5, 1.0),
            registry=self._registry,
        )

    def first_token(self, seconds: float) -> None:
        """Record that a request got its first token `seconds` after its arrival."""
        self._ttft.observe(seconds)

    def next_token(self, seconds: float) -> None:
        """Record that a request got a further token `seconds` after the previous one."""
        self._inter_token.observe(seconds)

    def finished(self, reason: str, timing: Timing, prompt_tokens: int, generation_tokens: int) -> None:
        """Record that a request ended with `reason`, one of FINISHED_REASONS."""
        self._success.labels(**self._labels, finished_reason=reason).inc()
        self._e2e.observe(timing.finished - timing.arrived)
        self._queue.observe(timing.scheduled - timing.arrived)
        self._inference.observe(timing.finished - timing.scheduled)
        self._prefill.observe(timing.first_token - timing.scheduled)
        self._decode.observe(timing.finished - timing.first_token)
        if generation_tokens > 1:
            self._per_token.observe((timing.finished - timing.first_token) / (generation_tokens - 1))
        self._request_prompt.observe(prompt_tokens)
        self._request_generation.observe(generation_tokens)

    def http_request(self, method: str, handler: str, status: int, seconds: float) -> None:
        """Record an answered HTTP request; `handler` is the route's path, or `none`."""
        self._http.labels(method=method, status=f"{status // 100}xx", handler=handler).inc()
        self._http_duration.labels(method=method, handler=handler).observe(seconds)

    def exposition(self) -> tuple[bytes, str]:
        """The answer of /metrics for all server processes: body and content type."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _gauge(self, name: str, documentation: str) -> Gauge:
        gauge = Gauge(
            f"vllm:{name}", documentation, [*self._labels], registry=self._registry, multiprocess_mode="livesum"
        )
        return gauge.labels(**self._labels)

    def _counter(self, name: str, documentation: str) -> Counter:
        counter = Counter(f"vllm:{name}", documentation, [*self._labels], registry=self._registry)
        return counter.labels(**self._labels)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"vllm:{name}", documentation, [*self._labels], buckets=buckets, registry=self._registry)
        return histogram.labels(**self._labels)


def _one_two_five(largest: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … up to `largest`: vLLM's buckets of token counts."""
    series = (mantissa * 10**exponent for exponent in range(len(str(largest))) for mantissa in (1, 2, 5))
    return tuple(float(value) for value in series if value <= largest)
