"""What a tenant may write in spec.serving.args, and the messages for everything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.policy import vllm_flags
from modelsync.policy.vllm_flags import (
    OWNED,
    REFUSED,
    ArgProblem,
    FlagTable,
    check_args,
    table_for,
)

VERSION = "v0.32.0"


def refusal(*args: str, allowed: tuple[str, ...] = ()) -> str:
    """The only message for these args."""
    [problem] = check_args(args, VERSION, allowed)
    return problem.message


@pytest.mark.parametrize(
    "arg",
    [
        "--max-model-len=8192",
        "--max-model-len=8k",
        "--max-model-len=auto",
        "--max-num-batched-tokens=16K",
        "--gpu-memory-utilization=0.9",
        "--device-memory-utilization=0.9",
        "--tensor-parallel-size=2",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--dtype=bfloat16",
        "--kv-cache-dtype=fp8",
        "--moe-backend=Deep-Gemm",
        "--max-lora-rank=16",
        "--load-format=runai_streamer",
        "--generation-config=vllm",
        '--override-generation-config={"temperature": 0.2}',
        '--compilation-config={"cudagraph_mode": "FULL"}',
        "--compilation-config.cudagraph_mode=FULL",
        '--limit-mm-per-prompt={"image": 4}',
        "--chat-template=/modelsync/model/template.jinja",
        "--num-gpu-blocks-override=None",
        "--no-trust-remote-code",
        "--api-server-count=4",
    ],
)
def test_an_arg_in_vllms_exact_spelling_passes(arg: str) -> None:
    assert check_args([arg], VERSION) == []


@pytest.mark.parametrize("flag", sorted(OWNED))
def test_a_flag_of_the_operators_cannot_be_set_nor_allowed(flag: str) -> None:
    for arg in (flag, f"{flag}=x"):
        message = refusal(arg, allowed=(flag,))
        assert message.startswith(f"{flag} is set by the operator, because ")


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_a_refused_flag_names_the_reason_and_who_may_allow_it(flag: str) -> None:
    takes = table_for(VERSION).flags[flag]
    value = {"json": "{}", "json-or-str": "{}", "int": "1"}.get(takes.type, "x")
    arg = flag if takes.takes == "nothing" else f"{flag}={takes.choices[0] if takes.choices else value}"

    message = refusal(arg)

    assert REFUSED[flag] in message
    assert f"the administrator can allow it: allowedArgs: [{flag}]" in message
    assert check_args([arg], VERSION, [flag]) == []


def test_policy_names_only_flags_that_vllm_has() -> None:
    assert {*OWNED, *REFUSED} <= table_for(VERSION).flags.keys()
    assert not OWNED.keys() & REFUSED.keys()


@pytest.mark.parametrize("arg", ["--distributed-executor-backend=ray", "--data-parallel-backend=ray"])
def test_a_backend_that_spans_hosts_is_refused(arg: str) -> None:
    assert f"{arg} is not allowed; allowed values: mp" in refusal(arg)


def test_the_flags_that_the_design_names_are_refused() -> None:
    design = (
        "--trust-remote-code --tokenizer --hf-overrides --speculative-config --disable-log-stats "
        "--worker-extension-cls --config --api-key --allowed-local-media-path --data-parallel-address "
        "--mm-encoder-fp8-scale-path --mm-encoder-fp8-scale-save-path --enable-log-requests --enable-log-outputs"
    )

    assert set(design.split()) <= REFUSED.keys()
    assert {"--host", "--port", "--model", "--served-model-name", "--middleware", "--shutdown-timeout"} <= OWNED.keys()


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("--max-modle-len=1", "--max-modle-len is not a flag of vLLM v0.32.0; did you mean --max-model-len?"),
        ("--max_model_len=1", "--max_model_len is not a flag of vLLM v0.32.0; did you mean --max-model-len?"),
        ("--trust-remote", "--trust-remote is not a flag of vLLM v0.32.0; did you mean --trust-remote-code?"),
        ("--xyzzy=1", "--xyzzy is not a flag of vLLM v0.32.0; `vllm serve --help=all` lists all flags"),
        ("--enforce-eager.x=1", "--enforce-eager.x is not a flag of vLLM v0.32.0; did you mean --enforce-eager?"),
        ("-tp=2", "-tp=2: write --tensor-parallel-size=2; short flags are not accepted"),
        ("-O3", "-O3: write --optimization-level=3; short flags are not accepted"),
        ("--max-model-len 8", "--max-model-len 8: write --max-model-len=8; join flag and value with ="),
        ("8192", "8192 is not a flag; write each item as --flag=value"),
        ("", " is not a flag; write each item as --flag=value"),
        ("--max-model-len", "--max-model-len needs a value in the same item; write --max-model-len=…"),
        (
            "--enforce-eager=true",
            "--enforce-eager=true: --enforce-eager takes no value; write --enforce-eager or --no-enforce-eager",
        ),
        ("--max-num-seqs=many", "--max-num-seqs=many is not valid; it must be a whole number"),
        (
            "--max-model-len=8q",
            "--max-model-len=8q is not valid; it must be a whole number, optionally with k (1000) or K (1024), or auto",
        ),
        ("--gpu-memory-utilization=most", "--gpu-memory-utilization=most is not valid; it must be a number"),
        (
            "--runner=generated",
            "--runner=generated is not valid; it must be one of auto, draft, generate, pooling; did you mean generate?",
        ),
        (
            "--override-generation-config={x}",
            "--override-generation-config={x} is not valid; it must be JSON, or its keys one by one as "
            "--override-generation-config.key=value",
        ),
        (
            "--api-server-count=0",
            "--api-server-count=0 is not valid; it must be at least 1, because without an API server the pod does not "
            "load the middleware, so a hold could not silence it",
        ),
        (
            "--grpc",
            "--grpc is set by the operator, because vLLM's gRPC server does not load the middleware, so a hold could "
            "not silence it; remove it",
        ),
        (
            "--load-format=pt",
            "--load-format=pt is not allowed; allowed values: auto, safetensors, fastsafetensors, instanttensor, "
            "mistral, runai_streamer, runai_streamer_sharded; the administrator can allow it: allowedArgs: "
            "[--load-format]",
        ),
        (
            "--generation-config=/somewhere",
            "--generation-config=/somewhere is not allowed; allowed values: auto, vllm; the administrator can allow "
            "it: allowedArgs: [--generation-config]",
        ),
        (
            "--distributed-executor-backend=my.Executor",
            "--distributed-executor-backend=my.Executor is not allowed; allowed values: mp, uni; the "
            "administrator can allow it: allowedArgs: [--distributed-executor-backend]",
        ),
    ],
)
def test_a_wrong_arg_is_refused_with_what_to_write(arg: str, message: str) -> None:
    assert refusal(arg) == message


def test_flag_and_value_in_two_items_are_refused() -> None:
    first, second = check_args(["--max-model-len", "8192"], VERSION)

    assert first.text == (
        "spec.serving.args[0]: --max-model-len needs a value in the same item; write --max-model-len=8192"
    )
    assert second.index == 1


@pytest.mark.parametrize(
    "arg",
    [
        "--compilation-config.backend=evil.compile",
        '--compilation-config={"backend": "evil.compile"}',
        '--compilation-config={"backend": "evil.compile", "max_cudagraph_capture_size": 1k}',
        '--compilation-config={"\\u0062ackend": "evil.compile"}',
        '--compilation-config.inductor_passes={"a": "evil.f"}',
        "--compilation-config.inductor_passes.a=evil.f",
        "--structured-outputs-config.reasoning_parser_plugin=/model/evil.py",
    ],
)
def test_a_key_inside_json_that_loads_code_is_refused_however_it_is_written(arg: str) -> None:
    assert "is not allowed, because it loads code; the administrator can allow it" in refusal(arg)


def test_the_administrator_can_allow_one_key_of_a_json_flag() -> None:
    allowed = ("--compilation-config.backend",)

    assert check_args(["--compilation-config.backend=eager"], VERSION, allowed) == []
    assert check_args(["--compilation-config.inductor_passes.a=f"], VERSION, allowed) != []


@pytest.mark.parametrize(
    "args",
    [
        ("--max-model-len=1", "--max-model-len=2"),
        ("--enforce-eager", "--no-enforce-eager"),
        ("--gpu-memory-utilization=0.5", "--device-memory-utilization=0.6"),
        ("--compilation-config.cudagraph_mode=FULL", "--compilation-config.cudagraph_mode=NONE"),
    ],
)
def test_a_flag_given_twice_is_refused_because_the_second_would_win(args: tuple[str, str]) -> None:
    [problem] = check_args(args, VERSION)

    assert problem.index == 1
    assert "repeats args[0]" in problem.message


def test_two_keys_of_one_json_flag_are_not_a_repetition() -> None:
    args = ["--compilation-config.cudagraph_mode=FULL", "--compilation-config.mode=3"]

    assert check_args(args, VERSION) == []


def test_each_problem_names_its_place() -> None:
    problems = check_args(["--enforce-eager", "--oops=1", "--port=1"], VERSION)

    assert [problem.field for problem in problems] == ["spec.serving.args[1]", "spec.serving.args[2]"]
    assert problems[0] == ArgProblem(1, problems[0].message)


def test_a_long_item_is_shortened_in_its_message() -> None:
    assert len(refusal("--" + "x" * 5000)) < 200


@pytest.mark.parametrize(
    ("version", "table"),
    [
        *(
            (version, "0.32.0")
            for version in ("v0.32.0", "0.32.0", "v0.33.1", "v0.32.0-x86_64", "latest", "nightly", None)
        ),
        ("v0.31.1", "0.31.0"),
        ("v0.18.1", "0.18.0"),
        ("v0.1", "0.18.0"),
    ],
)
def test_a_version_without_a_table_gets_the_newest_that_is_not_newer_or_else_the_oldest(
    version: str | None, table: str
) -> None:
    assert table_for(version).version == table


def test_an_older_vllm_has_the_flags_that_it_had() -> None:
    assert "--fingerprint-mode" not in table_for("v0.20.2").flags
    assert "--fingerprint-mode" in table_for("v0.21.0").flags
    assert check_args(["--max-num-partial-prefills=2"], "v0.26.0") == []
    assert "is not a flag of vLLM v0.27.0" in check_args(["--max-num-partial-prefills=2"], "v0.27.1")[0].message


def test_policy_names_all_flags_of_older_versions_that_load_code_or_open_doors() -> None:
    """Flags that only older versions have are listed here, so that someone reviews every new table."""
    newest = table_for(None).flags.keys()
    tables = vllm_flags._tables().values()

    assert {name for table in tables for name in table.flags} - newest == {
        "--calculate-kv-scales",
        "--disable-frontend-multiprocessing",
        "--enable-bf16x3-router-gemm",
        "--enable-mamba-fine-grained-prefix-cache",
        "--max-long-partial-prefills",
        "--max-num-partial-prefills",
        "--override-attention-dtype",
    }


def test_every_table_has_what_serving_needs() -> None:
    for table in vllm_flags._tables().values():
        assert set(vllm_flags.NEEDED) <= table.flags.keys(), table.version


@pytest.mark.parametrize("version", ["v0.18.0", "v0.32.0", "v1.0.0", "latest", "sha-12ab", None])
def test_a_version_with_all_that_serving_needs_or_without_a_number_is_taken(version: str | None) -> None:
    assert vllm_flags.check_version(version) is None


def test_a_version_that_cannot_drain_is_refused_with_one_that_can() -> None:
    assert vllm_flags.check_version("v0.17.1") == (
        "has the tag v0.17.1, and that version of vLLM lacks --shutdown-timeout: its pods would cut off requests in "
        "progress when they stop; use v0.18.0 or newer"
    )


@pytest.mark.parametrize(
    ("version", "table"),
    [
        ("0.9.2", "0.18.0"),
        ("0.18.0", "0.18.0"),
        ("0.31.9", "0.18.0"),
        ("0.32.0", "0.32.0"),
        ("1.0", "0.40.1"),
        (None, "0.40.1"),
    ],
)
def test_among_several_tables_the_newest_that_is_not_newer_is_taken(
    monkeypatch: pytest.MonkeyPatch, version: str | None, table: str
) -> None:
    tables = {(0, 32, 0): "0.32.0", (0, 18, 0): "0.18.0", (0, 40, 1): "0.40.1"}
    monkeypatch.setattr(vllm_flags, "_tables", lambda: {key: FlagTable(value, {}, {}) for key, value in tables.items()})

    assert table_for(version).version == table


def test_a_flag_of_a_newer_vllm_can_be_allowed_by_the_administrator() -> None:
    assert "is not a flag" in refusal("--invented-in-2027=1")
    assert check_args(["--invented-in-2027=1"], "v0.99.0", ["--invented-in-2027"]) == []


# --- an image without a version --------------------------------------------------------------------------------------

NO_VALUE = {flag.name for flag in table_for(None).flags.values() if flag.takes == "nothing"}


@pytest.mark.parametrize("flag", sorted({*OWNED, *REFUSED}))
def test_what_is_refused_is_refused_whatever_the_image_shows_of_its_version(flag: str) -> None:
    for version in (None, "latest", *(table.version for table in vllm_flags._tables().values())):
        assert check_args([flag if flag in NO_VALUE else f"{flag}=1"], version) != [], version


def test_an_unknown_flag_of_an_unknown_version_says_that_the_version_is_unknown() -> None:
    [problem] = check_args(["--calculate-kv-scales"], None)
    assert "is not a flag of vLLM v" in problem.message
    assert "the image has no tag with a version" in problem.message
    assert "repository:v0.32.0, also together with a digest" in problem.message
    [known] = check_args(["--oops"], "v0.32.0")
    assert "no tag" not in known.message


def test_every_flag_means_the_same_in_every_version_so_that_the_newest_table_can_stand_for_all() -> None:
    """A tag may be missing, or name another version than the digest beside it."""
    tables = vllm_flags._tables().values()
    meanings: dict[str, set[tuple[str, bool]]] = {}
    for table in tables:
        for spelling, (flag, off) in table.spellings.items():
            meanings.setdefault(spelling, set()).add((flag.name, off))
    assert [spelling for spelling, found in meanings.items() if len(found) > 1] == []
    for table in tables:
        abbreviations = [
            (spelling, full)
            for spelling in meanings.keys() - table.spellings.keys()
            for full in table.spellings
            if full.startswith(spelling)
        ]
        assert abbreviations == [], f"v{table.version} would take the one for the other"


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_string_without_an_end_is_searched_once() -> None:
    assert len(vllm_flags._STRINGS.split('\\"' * 1000)) == 3


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.dictionaries(st.text(), each, max_size=4)
)


@given(JSON_VALUES)
def test_json_is_read_as_it_is_written(value: Any) -> None:
    assert vllm_flags._parse_json(json.dumps(value)) == value
    assert vllm_flags._parse_json(json.dumps(value, ensure_ascii=False, indent=1)) == value


ODD_VALUES = st.text(st.sampled_from('"\\{}[]:,.019eEkK-_ \n'), max_size=300) | st.integers().map(str)
ODD_ARGS = st.lists(
    st.text(max_size=2048) | st.builds("{}={}".format, st.sampled_from(sorted(table_for(None).spellings)), ODD_VALUES),
    max_size=64,
)


@given(ODD_ARGS, st.sampled_from([VERSION, None, "latest", "9" * 50 + ".1"]))
def test_any_args_are_read_and_each_problem_is_short(args: list[str], version: str | None) -> None:
    for problem in check_args(args, version):
        assert problem.message
        assert len(problem.message) <= 2 * 2048 + 1000


def test_similar_flags_are_searched_for_the_first_problems_only(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def counted(word: str, *_: Any, **__: Any) -> list[str]:
        searched.append(word)
        return []

    monkeypatch.setattr(vllm_flags, "get_close_matches", counted)
    assert len(check_args([f"--enforce-eagle-{number}" for number in range(64)], None)) == 64
    assert len(searched) == vllm_flags.MAX_HINTS


@pytest.mark.parametrize("flag", ["--tensor-parallel-size", "--api-server-count", "--max-num-batched-tokens"])
def test_a_number_of_thousands_of_digits_is_refused(flag: str) -> None:
    assert "must be a whole number" in refusal(f"{flag}={'9' * 2000}")
