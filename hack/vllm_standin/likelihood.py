"""The words of the model's answer and their log-probabilities, derived from the artifact's content alone.

The weights record the chat template and the tokenizer they were trained with (safetensors metadata). In a folder with
different ones, the answer's words are out of order, as with a real model in a wrong prompt format; quantized weights
give lower probabilities. So a version fails its exam because of its content. Greedy and deterministic.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

TEMPLATE_KEY = "trained_with_template"
TOKENIZER_KEY = "trained_with_tokenizer"
"""Keys in the safetensors metadata; the values are from `mark`. Without them, any template and tokenizer fits."""

Top: TypeAlias = Sequence[tuple[str, float]]
"""Tokens with their log-probabilities, likeliest first."""

MOST = 20
"""vLLM's default of `--max-logprobs`."""

_OTHERS = (" the", " a", " of", " and", " to", " in", " is", " that", " it", " for", " as", " on", " with", " was",
           " by", " at", " or", " an", " be", " this", " not", " are")  # fmt: skip


@dataclass(frozen=True)
class Likelihood:
    """How well the folder fits its weights."""

    template_fits: bool = True
    tokenizer_fits: bool = True
    quantized: bool = False

    def words(self, says: str, *, chat: bool) -> list[str]:
        """The words of the answer; in order if the folder fits."""
        words = says.split() or ["…"]
        return words if self.tokenizer_fits and (self.template_fits or not chat) else words[::-1]

    def top(self, token: str, position: int, count: int) -> Top:
        """The chosen token and the next likely ones, `count` in all, but at least the chosen one."""
        return _top(token, position, self.quantized)[: max(1, count)]


def likelihood(metadata: Mapping[str, str], config: Mapping[str, Any], template: str, tokenizer: bytes) -> Likelihood:
    """The fit of weights with this metadata in a folder with this config.json, chat template and tokenizer file."""
    return Likelihood(
        template_fits=metadata.get(TEMPLATE_KEY, mark(template.encode())) == mark(template.encode()),
        tokenizer_fits=metadata.get(TOKENIZER_KEY, mark(tokenizer)) == mark(tokenizer),
        quantized="quantization_config" in config,
    )


def mark(content: bytes) -> str:
    """The mark of a file that weights record."""
    return hashlib.sha256(content).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _top(token: str, position: int, quantized: bool) -> Top:
    digest = hashlib.sha256(f"{position} {token}".encode()).digest()
    best = -0.05 - digest[0] / 400
    others = [word for word in _OTHERS if word != token][: MOST - 1]
    found = [(token, best), *((word, best - 1 - at / 2 - digest[1] / 400) for at, word in enumerate(others))]
    shift = 0.4 + digest[2] / 1000 if quantized else 0.0
    return tuple((word, round(logprob - shift, 6)) for word, logprob in found)
