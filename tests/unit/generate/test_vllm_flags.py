"""The generator reads vLLM's annotations as vLLM's own argparse builder does, and refuses what it does not know."""

import json
import zipfile
from pathlib import Path

import pytest

from generate.vllm_flags import TABLE, Sources, UnknownSourceError, encode, read_flags, whole_tables

CONFIG = """
from typing import Annotated, Any, Literal, TYPE_CHECKING
if TYPE_CHECKING:
    from vllm.formats import Formats
else:
    Formats = str
Policy = Literal["fcfs", "priority"]
EXTRA = "hidden"

class Backend(Enum):
    A = 1

@config
class Inner:
    x: int = 0

@config
class ModelConfig:
    eager: bool = False
    token: bool | str | None = None
    policy: Policy = "fcfs"
    fmt: str | Formats = "auto"
    backend: Backend | None = None
    seed: int = 0
    max_model_len: int | None = None
    max_num_batched_tokens: Annotated[int, "x"] = 1
    share: float = 0.9
    inner: Inner | None = None
    extras: dict[str, Any] | None = None
    names: "list[str] | None" = None
    overrides: dict[str, Any] | Backend = None
    moe: Literal["deep_gemm", "auto", "hidden"] = "auto"
    spec: Inner | None = None
"""

ARG_UTILS = """
from .config import EXTRA, ModelConfig

class EngineArgs:
    @staticmethod
    def add_cli_args(parser):
        model_kwargs = get_kwargs(ModelConfig)
        model_kwargs["moe"]["choices"].remove(EXTRA)
        group = parser.add_argument_group("x")
        for_later = model_kwargs["moe"]
        for_later["type"] = lambda s: s.lower().replace("-", "_")
        group.add_argument("--moe", **for_later)
        model_kwargs["spec"]["type"] = optional_type(json.loads)
        group.add_argument("--spec", "-sc", **model_kwargs["spec"])
        group.add_argument("--eager", **model_kwargs["eager"])
        group.add_argument("--token", **model_kwargs["token"])
        group.add_argument("--policy", **{**model_kwargs["policy"], "default": None})
        group.add_argument("--fmt", **model_kwargs["fmt"])
        group.add_argument("--backend", **model_kwargs["backend"])
        group.add_argument("--seed", "--random-seed", **model_kwargs["seed"])
        group.add_argument("--max-model-len", **model_kwargs["max_model_len"])
        group.add_argument("--max-num-batched-tokens", **model_kwargs["max_num_batched_tokens"])
        group.add_argument("--share", **model_kwargs["share"])
        group.add_argument("--inner", **model_kwargs["inner"])
        group.add_argument("--extras", **model_kwargs["extras"])
        group.add_argument("--names", **model_kwargs["names"])
        group.add_argument("--overrides", **model_kwargs["overrides"])
        parser.add_argument("--stats", action="store_true")
        parser.add_argument("--lora", action=argparse.BooleanOptionalAction)
        parser.add_argument("--rank", "-r", type=int)
        parser.add_argument("--kda", choices=["b", "a"])

class AsyncEngineArgs(EngineArgs):
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--enable-log-requests", action=argparse.BooleanOptionalAction)
"""

CLI_ARGS = """
class BaseFrontendArgs:
    default_chat_template_kwargs: dict[str, Any] | None = None
    lora_modules: list[Any] | None = None

class FrontendArgs(BaseFrontendArgs):
    host: str | None = None
    allowed_origins: list[str] = None
    allowed_methods: list[str] = None
    allowed_headers: list[str] = None
    middleware: list[str] = None

def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--headless", action="store_true")
"""


def wheel(folder: Path, arg_utils: str = ARG_UTILS, serve: str = "launchers") -> Sources:
    path = folder / "vllm.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/engine/arg_utils.py", arg_utils)
        archive.writestr("vllm/engine/config.py", CONFIG)
        archive.writestr("vllm/formats.py", 'Formats = Literal["auto", "pt"]')
        archive.writestr(f"vllm/entrypoints/{serve}/cli_args.py", CLI_ARGS)
    return Sources(path)


def test_each_kind_of_annotation_becomes_what_vllms_argparse_takes(tmp_path: Path) -> None:
    flags = read_flags(wheel(tmp_path))

    assert flags == {
        "--moe": {"takes": "value", "type": "str", "choices": ["auto", "deep_gemm"], "fold": True},
        "--spec": {"aliases": ["-sc"], "takes": "value", "type": "json", "none": True},
        "--eager": {"takes": "nothing", "no": True},
        "--token": {"takes": "optional", "type": "str"},
        "--policy": {"takes": "value", "type": "str", "choices": ["fcfs", "priority"]},
        "--fmt": {"takes": "value", "type": "str"},
        "--backend": {"takes": "value", "type": "str", "none": True},
        "--seed": {"aliases": ["--random-seed"], "takes": "value", "type": "int"},
        "--max-model-len": {"takes": "value", "type": "human-int-or-auto", "none": True},
        "--max-num-batched-tokens": {"takes": "value", "type": "human-int"},
        "--share": {"takes": "value", "type": "float"},
        "--inner": {"takes": "value", "type": "json", "none": True},
        "--extras": {"takes": "value", "type": "json", "none": True},
        "--names": {"takes": "value", "type": "str", "many": True, "none": True},
        "--overrides": {"takes": "value", "type": "json-or-str"},
        "--stats": {"takes": "nothing"},
        "--lora": {"takes": "nothing", "no": True},
        "--rank": {"aliases": ["-r"], "takes": "value", "type": "int"},
        "--kda": {"takes": "value", "type": "str", "choices": ["b", "a"]},
        "--enable-log-requests": {"takes": "nothing", "no": True},
        "--headless": {"takes": "nothing"},
        "--host": {"takes": "value", "type": "str", "none": True},
        "--default-chat-template-kwargs": {"takes": "value", "type": "json"},
        "--allowed-origins": {"takes": "value", "type": "json"},
        "--allowed-methods": {"takes": "value", "type": "json"},
        "--allowed-headers": {"takes": "value", "type": "json"},
        "--middleware": {"takes": "value", "type": "str", "repeats": True},
        "--lora-modules": {"takes": "value", "type": "str", "many": True},
    }


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ('group.add_argument("--new", **something(model_kwargs))', "--new: cannot follow"),
        ('group.add_argument("--new", **model_kwargs["gone"])', "--new: ModelConfig has no gone"),
        ('group.add_argument("--eager", **model_kwargs["eager"])', "--eager is added twice"),
    ],
)
def test_sources_of_another_shape_are_an_error_and_not_a_guess(tmp_path: Path, added: str, complaint: str) -> None:
    changed = ARG_UTILS.replace('parser.add_argument("--stats"', f'{added}\n        parser.add_argument("--stats"')

    with pytest.raises(UnknownSourceError, match=complaint):
        read_flags(wheel(tmp_path, changed))


def test_the_committed_table_is_what_the_generator_would_write() -> None:
    text = TABLE.read_text()

    assert encode(whole_tables(json.loads(text))) == text


def test_older_vllms_have_the_servers_own_flags_in_another_module(tmp_path: Path) -> None:
    assert "--middleware" in read_flags(wheel(tmp_path, serve="openai"))
    with pytest.raises(UnknownSourceError, match="none of the modules"):
        read_flags(wheel(tmp_path, serve="elsewhere"))


def test_only_the_newest_version_stands_whole_in_the_file() -> None:
    tables = {
        "0.9.0": {"--a": {"takes": "nothing"}, "--gone": {"takes": "nothing"}},
        "0.10.0": {"--a": {"takes": "value", "type": "int"}, "--new": {"takes": "nothing"}},
    }

    content = json.loads(encode(tables))

    assert content == {
        "0.10.0": tables["0.10.0"],
        "0.9.0": {"--a": {"takes": "nothing"}, "--gone": {"takes": "nothing"}, "--new": None},
    }
    assert list(content) == ["0.10.0", "0.9.0"]
    assert whole_tables(content) == tables
