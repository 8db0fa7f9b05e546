"""The table of vLLM's flags, and the pod's command line, compared with the installed vLLM's parser."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelsync.policy.vllm_flags import Flag, table_for
from realvllm import VERSION, packages
from realvllm.pods import pods_arguments, revision_record

OF_THE_PLATFORM = {"--mm-processor-device"}
"""The choices of these flags depend on the device, so that the table has none."""

# The real parser's definition of each flag, except `--help` and the positional model.
ASK = """
import argparse, json
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

def definition(action):
    return {
        "names": action.option_strings,
        "no": isinstance(action, argparse.BooleanOptionalAction),
        "nargs": action.nargs,
        "repeats": isinstance(action, argparse._AppendAction),
        "choices": None if action.choices is None else [c if isinstance(c, str) else repr(c) for c in action.choices],
    }

parser = make_arg_parser(FlexibleArgumentParser())
print("TOLD " + json.dumps([definition(a) for a in parser._actions if a.option_strings and a.dest != "help"]))
"""
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

args = make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(sys.argv[1]))
names = ("model_tag", "host", "port", "served_model_name", "middleware", "shutdown_timeout", "fingerprint_mode",
         "fingerprint_value", "enforce_eager", "max_model_len", "max_num_seqs")
print("TOLD " + json.dumps({name: getattr(args, name) for name in names}))
"""


def run(python: str, folder: Path, home: Path, code: str, *arguments: str) -> Any:
    answer = subprocess.run(
        [python, "-c", code, *arguments],
        env=dict(packages.environment(folder, home=home)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    [line] = [line for line in answer.stdout.splitlines() if line.startswith("TOLD ")]
    return json.loads(line[5:])


@pytest.fixture(scope="module")
def real(vllm_packages: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The parser's definition of each flag, by its first long name."""
    found = run(python, vllm_packages, tmp_path_factory.mktemp("home"), ASK)
    return {next(name for name in flag["names"] if name.startswith("--")): flag for flag in found}


def spellings(flag: Flag) -> set[str]:
    long = [flag.name, *(alias for alias in flag.aliases if alias.startswith("--"))]
    return {flag.name, *flag.aliases, *(f"--no-{name[2:]}" for name in long if flag.no)}


def test_the_table_has_the_parsers_flags_and_no_others(real: dict[str, dict[str, Any]]) -> None:
    mine = table_for(VERSION).flags

    assert len(real) > 300
    assert set(mine) == set(real)
    for name, flag in mine.items():
        assert spellings(flag) == set(real[name]["names"]), name


def test_the_table_matches_the_parser(real: dict[str, dict[str, Any]]) -> None:
    for name, flag in table_for(VERSION).flags.items():
        theirs = real[name]
        takes = {0: "nothing", "?": "optional"}.get(theirs["nargs"], "value")
        assert flag.takes == takes, name
        assert flag.no == theirs["no"], name
        assert flag.many == (theirs["nargs"] == "+"), name
        assert flag.repeats == theirs["repeats"], name


def test_the_table_has_the_parsers_choices(real: dict[str, dict[str, Any]]) -> None:
    for name, flag in table_for(VERSION).flags.items():
        choices = () if name in OF_THE_PLATFORM else real[name]["choices"] or ()
        assert set(flag.choices) == {choice for choice in choices if choice != "None"}, name


def test_the_parser_reads_the_pods_command_line_as_the_operator_means_it(
    vllm_packages: Path, python: str, tmp_path: Path
) -> None:
    record = revision_record("75s")
    _, *arguments = pods_arguments(record, "/models/0123")

    parsed = run(python, vllm_packages, tmp_path, PARSE, json.dumps([*arguments, *packages.CPU_ARGUMENTS]))

    assert parsed == {
        "model_tag": "/models/0123",
        "host": "127.0.0.1",
        "port": 8000,
        "served_model_name": [f"chat@{record.revision}", "chat"],
        "middleware": ["modelsync_middleware.VersionHeader"],
        "shutdown_timeout": 75,
        "fingerprint_mode": "custom",
        "fingerprint_value": record.revision,
        "enforce_eager": True,
        "max_model_len": 8192,
        "max_num_seqs": 8,
    }
