"""What holds for every test."""

import pytest
from hypothesis import HealthCheck, settings

# The machine that runs the tests may be busy with a cluster: how long an example takes says nothing about the code.
settings.register_profile("modelsync", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("modelsync")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that rewrites what golden tests compare with: logs, and outputs of commands."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files from what happens now")
