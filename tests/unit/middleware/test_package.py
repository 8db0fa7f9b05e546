"""The package that is copied to the model's pod has no dependencies there."""

import ast
import importlib
import sys

import pytest

from modelsync import middleware
from modelsync.api.pod_contract import MIDDLEWARE


@pytest.mark.parametrize("name", middleware.files())
def test_each_module_is_python_3_9_and_imports_only_the_standard_library_and_its_neighbours(name: str) -> None:
    tree = ast.parse(middleware.files()[name], feature_version=(3, 9))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    far = {alias.name.partition(".")[0] for node in imports for alias in node.names}
    far |= {str(node.module).partition(".")[0] for node in froms if not node.level}
    near = {node.module for node in froms if node.level}

    assert far <= sys.stdlib_module_names
    assert all(node.level <= 1 for node in froms)
    assert {f"{module}.py" for module in near} <= middleware.files().keys()


def test_the_import_path_names_the_class_in_the_package() -> None:
    module, _, name = MIDDLEWARE.rpartition(".")

    assert module == middleware.PACKAGE
    assert hasattr(importlib.import_module(f"modelsync.middleware.{module}"), name)
