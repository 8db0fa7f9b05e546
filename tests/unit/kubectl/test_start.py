"""Commands start fast because they import only what they need; kubectl runs the plugin on every TAB."""

import subprocess
import sys

SLOW = {"aiohttp", "asyncio", "yaml", "modelsync.resources", "modelsync.registry"}


def imported(code: str) -> set[str]:
    """The modules that a new process has imported after running `code`."""
    program = f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines())


def test_completion_of_a_command_imports_no_command() -> None:
    found = imported("from modelsync.kubectl.completion import completions; assert len(completions([''])) > 9")
    assert "click" in found
    assert not found & (SLOW | {"importlib.metadata", "pydantic", "rich", "modelsync.kubectl.commands.get"})


def test_commands_import_no_more_than_they_need() -> None:
    commands = ("get", "status", "requests", "suspend", "history")
    assert not imported("\n".join(f"import modelsync.kubectl.commands.{command}" for command in commands)) & SLOW
