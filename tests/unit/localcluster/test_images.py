"""What goes into the images follows from this checkout."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from localcluster.images import VLLM_STANDIN_REQUIREMENTS
from localcluster.paths import repository


def third_party_imports(package: Path) -> set[str]:
    found: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - {package.name} - sys.stdlib_module_names


def test_the_vllm_stand_ins_image_has_all_that_the_stand_in_imports() -> None:
    distributions = packages_distributions()
    imported = third_party_imports(repository() / "hack" / "vllm_standin")
    assert {distributions[module][0].replace("_", "-") for module in imported} == set(VLLM_STANDIN_REQUIREMENTS)
