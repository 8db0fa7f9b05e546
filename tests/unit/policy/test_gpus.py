"""The number of GPUs that the arguments use must equal the number that the pod gets."""

import pytest

from modelsync.policy.gpus import gpu_problems

TP, PP, DP = "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"


@pytest.mark.parametrize(
    ("args", "limits"),
    [
        ([], {}),
        ([], {"nvidia.com/gpu": "1", "memory": "64Gi"}),
        ([f"{TP}=4"], {"nvidia.com/gpu": "4"}),
        ([f"{TP}=4"], {"amd.com/gpu": "4"}),
        ([f"{TP}=2", f"{PP}=2"], {"nvidia.com/gpu": "4"}),
        ([f"{TP}=2", f"{DP}=4"], {"nvidia.com/gpu": "8"}),
        ([f"{TP}=2", "--prefill-context-parallel-size=2"], {"nvidia.com/gpu": "4"}),
        ([f"{TP}=2", "--decode-context-parallel-size=2"], {"nvidia.com/gpu": "2"}),
        ([f"{TP}=2", f"{DP}=16", "--data-parallel-size-local=4"], {"nvidia.com/gpu": "8"}),
        ([f"{TP}=2", f"{DP}=16", "--data-parallel-rank=3"], {"nvidia.com/gpu": "2"}),
        ([f"{TP}=2", f"{DP}=16", "--data-parallel-external-lb"], {"nvidia.com/gpu": "2"}),
        ([f"{TP}=2"], {"nvidia.com/mig-1g.5gb": "1", "nvidia.com/mig-2g.10gb": "1"}),
        ([f"{TP}=2"], {"example.com/fpga": "1"}),
        ([f"{TP}=2"], {"cpu": "8"}),
        ([f"{TP}=two"], {"nvidia.com/gpu": "1"}),
    ],
)
def test_what_fits_or_cannot_be_judged_is_no_problem(args: list[str], limits: dict[str, str]) -> None:
    assert list(gpu_problems(args, limits)) == []


@pytest.mark.parametrize(
    ("args", "limits", "message"),
    [
        (
            [f"{TP}=2"],
            {"nvidia.com/gpu": "1"},
            "1 in total, but vLLM would use 2 (--tensor-parallel-size=2); set the limit to 2, or "
            "--tensor-parallel-size=1",
        ),
        (
            [],
            {"nvidia.com/gpu": "8"},
            "8 in total, but vLLM would use 1 (without --tensor-parallel-size, one GPU); set the limit to 1, "
            "or --tensor-parallel-size=8",
        ),
        (
            [f"{TP}=2", f"{PP}=2"],
            {"nvidia.com/gpu": "5"},
            "5 in total, but vLLM would use 4 (--tensor-parallel-size=2 × --pipeline-parallel-size=2); set "
            "the limit to 4",
        ),
        (
            [f"{TP}=2", f"{DP}=2"],
            {"nvidia.com/gpu": "8"},
            "8 in total, but vLLM would use 4 (--tensor-parallel-size=2 × --data-parallel-size=2); set the "
            "limit to 4, or --tensor-parallel-size=4",
        ),
    ],
)
def test_too_few_and_idle_gpus_are_refused_with_both_fixes(
    args: list[str], limits: dict[str, str], message: str
) -> None:
    (problem,) = gpu_problems(args, limits)
    assert (problem.field, problem.message) == ("spec.serving.resources.limits[nvidia.com/gpu]", message)


def test_sizes_of_thousands_of_digits_are_left_to_the_check_of_the_flags() -> None:
    huge = "9" * 2000
    args = [f"--tensor-parallel-size={huge}", f"--pipeline-parallel-size={huge}", f"--data-parallel-size={huge}"]
    assert list(gpu_problems(args, {"nvidia.com/gpu": "1"})) == []
