"""`modelsync run`: what is wrong is told in a sentence, before anything starts."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from modelsync.cli import main


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What the command sets up for its process must not reach the other tests."""
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


def told(*arguments: str, env: dict[str, str | None] | None = None) -> tuple[int, str]:
    clean: dict[str, str | None] = {"KUBECONFIG": None, "KUBERNETES_SERVICE_HOST": None, "HOME": "/nonexistent"}
    result = CliRunner().invoke(main, ["run", *arguments], env=clean | (env or {}))
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, output = told("--kubeconfig", str(tmp_path / "nothing"))
    assert code == 1
    assert f"--kubeconfig {tmp_path / 'nothing'}: there is no such file" in output


def test_without_any_cluster_it_says_what_to_give() -> None:
    code, output = told()
    assert code == 1
    assert "give --kubeconfig FILE or set KUBECONFIG" in output


def test_settings_that_cannot_be_used_are_named_by_file_and_field(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("allowedRegistrys: []")
    code, output = told("--config", str(settings))
    assert code == 1
    assert str(settings) in output.replace("\n", "")
    assert "allowedRegistrys" in output


@pytest.mark.parametrize("token", ["", "short"])
def test_a_webhook_token_that_can_be_guessed_is_refused(token: str) -> None:
    code, output = told("--webhook-port", "9443", env={"MODELSYNC_WEBHOOK_TOKEN": token})
    assert code == 1
    assert "openssl rand -hex 32" in output


def test_a_token_file_without_a_port_is_of_no_use_and_said_to_be(tmp_path: Path) -> None:
    code, output = told("--webhook-token-file", str(tmp_path / "token"))
    assert code == 2
    assert "--webhook-port" in output


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    code, output = told("--webhook-port", "9443", "--webhook-token-file", str(tmp_path / "token"))
    assert code == 1
    assert "cannot be read" in output


def test_an_api_server_that_does_not_answer_is_told_with_its_address(tmp_path: Path) -> None:
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
    code, output = told("--kubeconfig", str(config))
    assert code == 1
    assert "127.0.0.1:1" in output
    assert "check --kubeconfig" in output


def test_help_names_the_environment_and_the_exit_codes() -> None:
    code, output = told("--help")
    assert code == 0
    assert "MODELSYNC_WEBHOOK_TOKEN" in output
    assert "Exit codes" in output


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    code, output = told("--webhook-port", "9443", "--webhook-tls-cert-file", str(tmp_path / "tls.crt"))
    assert code == 2
    assert "--webhook-tls-key-file" in output


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    files = ["--webhook-tls-cert-file", str(tmp_path / "tls.crt"), "--webhook-tls-key-file", str(tmp_path / "tls.key")]
    code, output = told("--webhook-port", "9443", *files)
    assert code == 1
    assert f"{tmp_path / 'tls.crt'}: cannot be read" in output
