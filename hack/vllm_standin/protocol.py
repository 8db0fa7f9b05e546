"""The OpenAI API's formats as in vLLM: the allowed content of requests, and the form of answers and errors.

Pure: bodies in, dicts out. Sources: `vllm/entrypoints/openai/*/protocol.py` and `serve/exception_handling`.
"""

import base64
import json
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from vllm_standin.likelihood import MOST, Top

_COMPLETION_MAX_TOKENS = 16  # the OpenAI API's default, which vLLM keeps


class ApiError(Exception):
    """An answer in vLLM's error format."""

    def __init__(self, status: HTTPStatus, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        """The JSON body, which is also the payload of an error event in a stream."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.status.value}}


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """A request that the API refuses; like vLLM, the message also contains the parameter and the value."""
    details = [f"parameter={param}"] if param else []
    details += [f"value={value}"] if value is not None else []
    text = f"{message} ({', '.join(details)})" if details else message
    return ApiError(HTTPStatus.BAD_REQUEST, "BadRequestError", text, param)


def internal_error(message: str) -> ApiError:
    """The error that a client gets for a failure in the engine."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", message)


def unknown_model(name: str, names: Sequence[str]) -> ApiError:
    """The request names a model that is not served; `names` are the served names of the base model."""
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(names)}."
    return ApiError(HTTPStatus.NOT_FOUND, "NotFoundError", message, "model")


def unsupported_media_type() -> ApiError:
    """The body is not declared as JSON."""
    text = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return ApiError(HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST.phrase, text)


def plain_http_error(status: int) -> dict[str, Any]:
    """The body for an unknown route or method, in FastAPI's format."""
    return {"detail": HTTPStatus(status).phrase}


@dataclass(frozen=True)
class TextRequest:
    """A validated completion or chat request."""

    chat: bool
    model: str | None
    prompt_tokens: tuple[int, ...]
    """The length of each prompt in tokens; a chat has one."""
    max_tokens: int
    n: int
    stream: bool
    include_usage: bool
    ignore_eos: bool
    stop: tuple[str, ...]
    logprobs: int | None
    """How many of the likeliest tokens to return for each token; None: no log-probabilities."""


@dataclass(frozen=True)
class Spoken:
    """The text of a choice: all of it, or one token."""

    text: str
    tokens: int
    """Tokens of the choice so far."""
    finish_reason: str | None
    stop_reason: str | None
    logprobs: dict[str, Any] | None
    """The result of `logprobs_of`."""


@dataclass(frozen=True)
class EmbeddingRequest:
    """A validated embedding request."""

    model: str | None
    prompt_tokens: tuple[int, ...]
    as_base64: bool


def parse_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. Raises ApiError."""
    if not raw:
        raise _invalid("missing", "body", "Field required", None)
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        raise _invalid("json_invalid", f"body.{error.pos}", "JSON decode error", {}, error=error.msg) from None
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _invalid("model_attributes_type", "body", message, body)
    return body


def parse_text_request(body: Mapping[str, Any], *, chat: bool, max_model_len: int) -> TextRequest:
    """Validate the body of a completion or chat as vLLM does. Raises ApiError."""
    if chat:
        prompts = [_message_tokens(body)]
    else:
        prompts = _prompt_tokens(body.get("prompt"))
        if body.get("prompt") == []:
            raise bad_request("You must pass at least one prompt")
        if not prompts:
            raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    longest = max(prompts)
    if longest >= max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
            f"{max_model_len + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
            "the length of the input prompt.",
            "input_tokens",
            max_model_len + 1,
        )
    asked = _whole(body, "max_completion_tokens") if chat else None
    asked = _whole(body, "max_tokens") if asked is None else asked
    if asked is None:
        asked = max_model_len - longest if chat else _COMPLETION_MAX_TOKENS
    if asked < 1:
        raise bad_request(f"max_tokens must be at least 1, got {asked}.", "max_tokens", asked)
    if asked > max_model_len:
        raise bad_request(
            f"max_tokens={asked} cannot be greater than max_model_len={max_model_len}. Please request fewer output "
            "tokens.",
            "max_tokens",
            asked,
        )
    if longest + asked > max_model_len and chat is False and body.get("max_tokens") is None:
        asked = max_model_len - longest
    if longest + asked > max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {asked} output "
            f"tokens and your prompt contains {longest} input tokens, for a total of {longest + asked} tokens.",
            "max_tokens",
        )
    n = _whole(body, "n")
    if n is not None and n < 1:
        raise bad_request(f"n must be at least 1, got {n}.")
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    if options is not None and not isinstance(options, dict):
        raise _invalid("model_attributes_type", "body.stream_options", "Input should be a valid dictionary", options)
    return TextRequest(
        chat=chat,
        model=_model(body),
        prompt_tokens=tuple(prompts),
        max_tokens=asked,
        n=n or 1,
        stream=stream,
        include_usage=bool((options or {}).get("include_usage")),
        ignore_eos=_flag(body, "ignore_eos"),
        stop=_stop(body.get("stop")),
        logprobs=_logprobs(body, chat=chat),
    )


def logprobs_of(tops: Sequence[Top], *, chat: bool, count: int, offset: int = 0) -> dict[str, Any]:
    """The `logprobs` of a choice, from each token's likeliest: CompletionLogProbs or ChatCompletionLogProbs.

    `count` is the requested number; the chosen token is always included. `offset` is the position of its text.
    """
    if chat:
        return {
            "content": [
                {**_token_logprob(*top[0]), "top_logprobs": [_token_logprob(*other) for other in top[:count]]}
                for top in tops
            ]
        }
    starts = [offset + sum(len(top[0][0]) for top in tops[:at]) for at in range(len(tops))]
    return {
        "text_offset": starts,
        "token_logprobs": [top[0][1] for top in tops],
        "tokens": [top[0][0] for top in tops],
        "top_logprobs": [dict(top) for top in tops],
    }


def parse_embedding_request(body: Mapping[str, Any], *, max_model_len: int) -> EmbeddingRequest:
    """Validate the body of an embedding request as vLLM does. Raises ApiError."""
    prompts = _prompt_tokens(body.get("input"), "input")
    if not prompts:
        raise _invalid("missing", "body.input", "Field required", body)
    if max(prompts) > max_model_len:
        raise bad_request(f"This model's maximum context length is {max_model_len} tokens.", "input_tokens")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _invalid("literal_error", "body.encoding_format", "Input should be 'float' or 'base64'", encoding)
    return EmbeddingRequest(_model(body), tuple(prompts), encoding == "base64")


def model_list(names: Sequence[str], root: str, max_model_len: int, created: int) -> dict[str, Any]:
    """The answer of /v1/models."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": root,
                "parent": None,
                "max_model_len": max_model_len,
                "permission": [
                    {
                        "id": f"modelperm-{_hex()}",
                        "object": "model_permission",
                        "created": created,
                        "allow_create_engine": False,
                        "allow_sampling": True,
                        "allow_logprobs": True,
                        "allow_search_indices": False,
                        "allow_view": True,
                        "allow_fine_tuning": False,
                        "organization": "*",
                        "group": None,
                        "is_blocking": False,
                    }
                ],
            }
            for name in names
        ],
    }


class TextAnswer:
    """Builds the answer to one text request, whole or in chunks; `model` is the name that the answer contains."""

    def __init__(self, request: TextRequest, model: str, fingerprint: str | None) -> None:
        self._request = request
        self._fingerprint = fingerprint
        prefix = "chatcmpl" if request.chat else "cmpl"
        self._head = {"id": f"{prefix}-{_hex()}", "created": int(time.time()), "model": model}

    def whole(self, spoken: Sequence["Spoken"]) -> dict[str, Any]:
        """The body of an answer that is not streamed, one choice for each of `spoken`."""
        choices = []
        for index, choice_text in enumerate(spoken):
            content: dict[str, Any] = {"text": choice_text.text}
            if self._request.chat:
                content = {"message": {"role": "assistant", "content": choice_text.text, **_nothing(*_MESSAGE_EXTRAS)}}
            choices.append(
                {
                    "index": index,
                    **content,
                    "logprobs": choice_text.logprobs,
                    "finish_reason": choice_text.finish_reason or "stop",
                    "stop_reason": choice_text.stop_reason,
                    **_nothing("token_ids", "routed_experts"),
                    **({} if self._request.chat else _nothing("prompt_logprobs", "prompt_token_ids")),
                }
            )
        return {
            **self._head,
            "object": "chat.completion" if self._request.chat else "text_completion",
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": {
                **self._usage(sum(each.tokens for each in spoken)),
                **_nothing("prompt_tokens_details", "completion_tokens_details"),
            },
            **(_nothing("prompt_logprobs", "prompt_token_ids", "prompt_text") if self._request.chat else {}),
            **_nothing("kv_transfer_params", "ec_transfer_params", "metrics"),
        }

    def role_chunk(self, index: int) -> dict[str, Any]:
        """The first chunk of a choice of a streamed chat."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._chunk([choice]), **_nothing("prompt_token_ids", "prompt_text")}

    def chunk(self, index: int, token: "Spoken", *, last: bool) -> dict[str, Any]:
        """One token of a stream; the last chunk of a choice has a finish_reason."""
        content: dict[str, Any] = {"delta": {"content": token.text}} if self._request.chat else {"text": token.text}
        choice = {"index": index, **content, "logprobs": token.logprobs, "finish_reason": token.finish_reason}
        choice |= (
            _nothing("token_ids") if self._request.chat else _nothing("stop_reason", "prompt_token_ids", "token_ids")
        )
        if not last:
            return self._chunk([choice])
        final = self._chunk([{**choice, "stop_reason": token.stop_reason}])
        return final if self._request.include_usage else {**final, "system_fingerprint": self._fingerprint}

    def usage_chunk(self, tokens: int) -> dict[str, Any]:
        """The final chunk with the usage, if it was requested."""
        return {**self._chunk([]), "usage": self._usage(tokens), "system_fingerprint": self._fingerprint}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._request.chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices}

    def _usage(self, tokens: int) -> dict[str, Any]:
        prompt = sum(self._request.prompt_tokens)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + tokens,
            "completion_tokens": tokens,
        }


def embedding_answer(request: EmbeddingRequest, model: str, vectors: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The body of /v1/embeddings."""
    prompt = sum(request.prompt_tokens)
    return {
        "id": f"embd-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [
            {
                "index": index,
                "object": "embedding",
                "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
                if request.as_base64
                else list(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {
            "prompt_tokens": prompt,
            "total_tokens": prompt,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


_MESSAGE_EXTRAS = ("refusal", "annotations", "audio", "function_call", "reasoning")


def _nothing(*names: str) -> dict[str, None]:
    """Fields that vLLM includes but leaves empty."""
    return dict.fromkeys(names)


def _hex() -> str:
    return uuid.uuid4().hex[:16]


def _invalid(kind: str, location: str, message: str, given: object, *, error: str | None = None) -> ApiError:
    """A body that does not match the schema: pydantic's error `kind`, wrapped as by FastAPI and vLLM."""
    shown = f"<{type(given).__name__} of {len(given)} items>" if isinstance(given, dict | list) else str(given)
    item: dict[str, object] = {"type": kind, "loc": location, "msg": message, "input": shown}
    if error is not None:
        item["ctx"] = {"error": error}
    text = f"1 validation error:\n  {item}"
    return ApiError(HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST.phrase, text, location)


def _model(body: Mapping[str, Any]) -> str | None:
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise _invalid("string_type", "body.model", "Input should be a valid string", model)
    return model


def _message_tokens(body: Mapping[str, Any]) -> int:
    messages = body.get("messages")
    if messages is None:
        raise _invalid("missing", "body.messages", "Field required", body)
    if not isinstance(messages, list):
        raise _invalid("list_type", "body.messages", "Input should be a valid list", messages)
    if not messages:
        raise bad_request("Cannot apply chat template to an empty conversation. Provide at least one message.")
    tokens = 0
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _invalid("missing", f"body.messages.{index}.role", "Field required", message)
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        tokens += sum(len(str(part.get("text", "")).split()) for part in parts if isinstance(part, dict))
    return max(1, tokens)


def _prompt_tokens(prompt: Any, field: str = "prompt") -> list[int]:
    """The length of each prompt: the words of a string, or the given tokens."""
    if prompt is None or prompt in ("", []):
        return []
    if isinstance(prompt, str):
        return [max(1, len(prompt.split()))]
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        return [len(prompt)]
    if isinstance(prompt, list) and all(isinstance(part, str) for part in prompt):
        return [max(1, len(part.split())) for part in prompt]
    if isinstance(prompt, list) and all(isinstance(part, list) for part in prompt):
        return [max(1, len(part)) for part in prompt]
    raise _invalid("string_type", f"body.{field}", "Input should be a valid string", prompt)


def _whole(body: Mapping[str, Any], field: str) -> int | None:
    value = body.get(field)
    if isinstance(value, str):  # like pydantic in lax mode
        try:
            return int(value)
        except ValueError:
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise _invalid("int_parsing", f"body.{field}", message, value) from None
    if value is not None and not isinstance(value, int):
        raise _invalid("int_type", f"body.{field}", "Input should be a valid integer", value)
    return value


def _flag(body: Mapping[str, Any], field: str) -> bool:
    value = body.get(field)
    parsed = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())  # like pydantic
    if value is not None and parsed is None:
        message = "Input should be a valid boolean, unable to interpret input"
        raise _invalid("bool_parsing", f"body.{field}", message, value)
    return bool(parsed)


def _token_logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _logprobs(body: Mapping[str, Any], *, chat: bool) -> int | None:
    if not chat:
        asked = _whole(body, "logprobs")
        if asked is not None and asked < 0:
            raise bad_request("`logprobs` must be a positive value.", "logprobs")
    else:
        top = _whole(body, "top_logprobs")
        if top and not _flag(body, "logprobs"):
            raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
        if top is not None and top < 0:
            raise bad_request("`top_logprobs` must be a positive value.", "top_logprobs")
        asked = (top or 0) if _flag(body, "logprobs") else None
    if asked is not None and asked > MOST:
        raise bad_request(
            f"Requested sample logprobs of {asked}, which is greater than max allowed: {MOST}", "logprobs"
        )
    return asked


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(item for item in value if item)
    raise _invalid("string_type", "body.stop", "Input should be a valid string", value)
