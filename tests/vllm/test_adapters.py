"""The operator's handling of LoRA adapters, compared with the installed vLLM's checks and parser."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelsync.api.serving import Serving
from modelsync.policy.vllm_flags import table_for
from modelsync.resources.adapter_config import AdapterRefusedError, read_adapter
from modelsync.resources.lora import arguments, lora
from realvllm import VERSION, model, packages

PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj"],
    "bias": "none",
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": True,
    "init_lora_weights": True,
    "rank_pattern": {},
}
CHANGES: list[dict[str, Any]] = [
    {},
    {"rank_pattern": {"q": 64}},
    {"modules_to_save": ["score"]},
    {"modules_to_save": []},
    {"modules_to_save": ["lm_head", "score"]},
    *({"init_lora_weights": init} for init in (False, "gaussian", "eva", "orthogonal", "mica", "lora_ga")),
    *({"init_lora_weights": init} for init in ("pissa", "pissa_niter_4", "olora", "corda", "loftq")),
    {"use_dora": True},
    {"bias": "all"},
    {"bias": "lora_only"},
    {"lora_bias": True},
    {"alora_invocation_tokens": [1]},
    {"layer_replication": [[0, 4]]},
    {"use_bdlora": {"a": 1}},
    {"use_qalora": True},
    {"r": 0},
    {"rank_pattern": {"q": -1}},
]

JUDGE = """
import json, sys
from vllm.config.lora import LoRAConfig
from vllm.lora.peft_helper import PEFTHelper

def judged(config):
    try:
        PEFTHelper.from_dict({**config, "vllm_max_position_embeddings": 4096}).validate_legal(
            LoRAConfig(max_lora_rank=512)
        )
    except ValueError:
        return False
    return True

print("TOLD " + json.dumps([judged(config) for config in json.loads(sys.argv[1])]))
"""
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

args = make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(sys.argv[1]))
modules = [[module.name, module.path, module.base_model_name] for module in args.lora_modules]
print("TOLD " + json.dumps([args.enable_lora, args.max_loras, args.max_cpu_loras, args.max_lora_rank, modules,
                            args.served_model_name]))
"""


def run(python: str, folder: Path, home: Path, code: str, argument: Any) -> Any:
    answer = subprocess.run(
        [python, "-c", code, json.dumps(argument)],
        env=dict(packages.environment(folder, home=home)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("TOLD ")]
    return json.loads(line[5:])


def is_taken(config: dict[str, Any]) -> bool:
    try:
        read_adapter(("adapter_config.json", "adapter_model.safetensors"), json.dumps(config).encode())
    except AdapterRefusedError:
        return False
    return True


def test_vllm_takes_and_refuses_the_same_adapters(vllm_packages: Path, python: str, tmp_path: Path) -> None:
    configs = [PLAIN | change for change in CHANGES]
    real = run(python, vllm_packages, tmp_path, JUDGE, configs)
    mine = [is_taken(config) for config in configs]
    assert [change for change, one, other in zip(CHANGES, real, mine, strict=True) if one != other] == []
    assert {True, False} == set(real)


def test_vllm_reads_the_arguments_of_a_pod_with_adapters(vllm_packages: Path, python: str, tmp_path: Path) -> None:
    serving = Serving.model_validate(
        {
            "baseModelRef": "acme/r/base:production",
            "adapters": [{"name": "legal", "modelRef": "acme/r/legal:production"}],
        }
    )
    how = lora(serving, "chat", "v7-3fa9c1d2")
    assert how is not None
    folders = {"base": "/models/0", "model": "/models/1", "adapter/legal": "/models/2"}
    given = ["--served-model-name", *how.base_names, *arguments(how, folders, 32), "--shutdown-timeout=60"]
    base = "chat-base@v7-3fa9c1d2"
    assert run(python, vllm_packages, tmp_path, PARSE, given) == [
        True,
        2,
        2,
        32,
        [["chat@v7-3fa9c1d2", "/models/1", base], ["legal@v7-3fa9c1d2", "/models/2", base]],
        [base, "chat-base"],
    ]


def test_the_tiny_adapter_is_one_that_may_be_served() -> None:
    files = model.make_adapter(None, model.ADAPTER_SIGNS[0])
    assert read_adapter(files, files["adapter_config.json"]).rank == model.ADAPTER_RANK


@pytest.mark.parametrize("rank", [1, 512])
def test_the_ranks_of_the_table_are_those_that_a_pod_may_be_started_with(rank: int) -> None:
    assert str(rank) in table_for(VERSION).flags["--max-lora-rank"].choices
