"""`modelsync run` reports wrong options in one sentence, before anything starts."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from modelsync.cli import main


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """The logging that the command configures for its process must not affect other tests."""
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


def run(*arguments: str, env: dict[str, str | None] | None = None) -> tuple[int, str]:
    clean: dict[str, str | None] = {"KUBECONFIG": None, "KUBERNETES_SERVICE_HOST": None, "HOME": "/nonexistent"}
    result = CliRunner().invoke(main, ["run", *arguments], env=clean | (env or {}))
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    code, output = run("--kubeconfig", str(tmp_path / "nothing"))
    assert code == 1
    assert f"--kubeconfig {tmp_path / 'nothing'}: there is no such file" in output


def test_without_a_cluster_the_error_names_the_options() -> None:
    code, output = run()
    assert code == 1
    assert "pass --kubeconfig FILE or set KUBECONFIG" in output


def test_invalid_settings_are_named_by_file_and_field(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("allowedRegistrys: []")
    code, output = run("--config", str(settings))
    assert code == 1
    assert str(settings) in output.replace("\n", "")
    assert "allowedRegistrys" in output


@pytest.mark.parametrize("token", ["", "short"])
def test_a_webhook_token_that_can_be_guessed_is_refused(token: str) -> None:
    code, output = run("--webhook-port", "9443", env={"MODELSYNC_WEBHOOK_TOKEN": token})
    assert code == 1
    assert "openssl rand -hex 32" in output


def test_a_token_file_without_a_port_is_refused(tmp_path: Path) -> None:
    code, output = run("--webhook-token-file", str(tmp_path / "token"))
    assert code == 2
    assert "--webhook-port" in output


def test_an_unreadable_token_file_is_named(tmp_path: Path) -> None:
    code, output = run("--webhook-port", "9443", "--webhook-token-file", str(tmp_path / "token"))
    assert code == 1
    assert "cannot be read" in output


def test_the_error_for_an_unreachable_api_server_has_its_address(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
"""
    )
    code, output = run("--kubeconfig", str(config))
    assert code == 1
    assert "127.0.0.1:1" in output
    assert "check --kubeconfig" in output


def test_help_names_the_environment_and_the_exit_codes() -> None:
    code, output = run("--help")
    assert code == 0
    assert "MODELSYNC_WEBHOOK_TOKEN" in output
    assert "Exit codes" in output


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    code, output = run("--webhook-port", "9443", "--webhook-tls-cert-file", str(tmp_path / "tls.crt"))
    assert code == 2
    assert "--webhook-tls-key-file" in output


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    files = ["--webhook-tls-cert-file", str(tmp_path / "tls.crt"), "--webhook-tls-key-file", str(tmp_path / "tls.key")]
    code, output = run("--webhook-port", "9443", *files)
    assert code == 1
    assert f"{tmp_path / 'tls.crt'}: cannot be read" in output
