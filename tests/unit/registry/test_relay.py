"""Webhooks that reach a standby replica, and the receiver's TLS certificate."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from modelsync.controller.listen import listen
from modelsync.registry import certificate as certificates
from modelsync.registry.certificate import Certificate, CertificateError
from modelsync.registry.relay import RELAYED_HEADER, Relay
from modelsync.registry.webhook import application

TOKEN = "a-token-of-an-automation"
SECRET = "a-secret-for-signing"
BODY = '{"entity_name": "acme", "project_name": "models", "artifact_collection_name": "chat"}'
Looks = list[tuple[str, ...]]


class Process:
    """One replica of the operator: its webhook receiver, and the looks that it requested."""

    def __init__(self, relay: Relay, port: int) -> None:
        self.relay = relay
        self.address = f"127.0.0.1:{port}"
        self.looks: Looks = []

    def lead(self) -> None:
        self.relay.lead(lambda *place: self.looks.append(place))


@asynccontextmanager
async def process(
    leader: list[str], *, token: str = TOKEN, certificate: Certificate | None = None
) -> AsyncIterator[Process]:
    """`leader` contains the leader's address, if known."""
    relay = Relay(lambda: leader[0] if leader else None, token=token, certificate=certificate)
    app = application(relay, token=token)
    async with listen(app, host="127.0.0.1", port=0, certificate=certificate) as port:
        yield Process(relay, port)


async def call(address: str, *, tls: bool = False, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{'https' if tls else 'http'}://{address}/webhook",
            data=BODY,
            headers={"Authorization": f"Bearer {TOKEN}", **headers},
            ssl=False,
        ) as response,
    ):
        return response.status


async def test_a_webhook_that_reaches_a_waiting_process_makes_the_leader_look() -> None:
    leader: list[str] = []
    async with process(leader) as leading, process(leader) as waiting:
        leader.append(leading.address)
        leading.lead()
        assert await call(waiting.address) == 202
        assert (leading.looks, waiting.looks) == ([("acme", "models", "chat")], [])


async def test_a_signed_webhook_is_passed_on_signed() -> None:
    looks: Looks = []
    leader: list[str] = []
    leading, waiting = (Relay(lambda: leader[0], token=TOKEN, secret=SECRET) for _ in range(2))
    leading.lead(lambda *place: looks.append(place))
    async with listen(application(leading, token=TOKEN, secret=SECRET), host="127.0.0.1", port=0) as port:
        leader.append(f"127.0.0.1:{port}")
        assert await waiting.handle("acme", "models", "chat", relayed=False)
    assert looks == [("acme", "models", "chat")]


async def test_a_webhook_without_a_leader_is_answered_with_503() -> None:
    leader: list[str] = []
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with process(leader) as waiting:
            assert await call(waiting.address) == 503, "no leader is known"
            leader.append(f"127.0.0.1:{unused.getsockname()[1]}")
            assert await call(waiting.address) == 503, "the leader does not answer"


async def test_two_processes_that_each_take_the_other_for_the_leader_do_not_call_each_other_for_ever() -> None:
    first_leader: list[str] = []
    second_leader: list[str] = []
    async with process(first_leader) as first, process(second_leader) as second:
        first_leader.append(second.address)
        second_leader.append(first.address)
        assert await call(first.address) == 503
        relayed: dict[str, Any] = {RELAYED_HEADER: "true"}
        assert await call(first.address, **relayed) == 503


# -- TLS


def make(folder: Path, name: str = "receiver") -> tuple[Path, Path]:
    """A new self-signed certificate and its key."""
    chain, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


async def shown(address: str) -> bytes:
    """The certificate that a server presents."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(found, bytes)
        return found
    finally:
        writer.close()


async def test_processes_with_the_same_certificate_trust_each_other_by_it(tmp_path: Path) -> None:
    files = make(tmp_path)
    leader: list[str] = []
    async with (
        process(leader, certificate=Certificate(*files)) as leading,
        process(leader, certificate=Certificate(*files)) as waiting,
    ):
        leader.append(leading.address)
        leading.lead()
        assert await call(waiting.address, tls=True) == 202
        assert leading.looks


async def test_a_token_is_not_shown_to_who_has_another_certificate(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    leader: list[str] = []
    async with (
        process(leader, certificate=Certificate(*make(other))) as stranger,
        process(leader, certificate=Certificate(*make(own))) as waiting,
    ):
        leader.append(stranger.address)
        stranger.lead()
        assert await call(waiting.address, tls=True) == 503
        assert not stranger.looks


async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CHECK_INTERVAL", timedelta(milliseconds=20))
    certificate = Certificate(*make(tmp_path, "first"))
    async with process([], certificate=certificate) as receiver:
        first = await shown(receiver.address)
        make(tmp_path, "second")
        async with asyncio.timeout(5):
            while await shown(receiver.address) == first:  # noqa: ASYNC110  # only a handshake shows it
                await asyncio.sleep(0.02)


def test_a_pair_that_does_not_fit_is_not_taken(tmp_path: Path) -> None:
    chain, key = make(tmp_path)
    certificate = Certificate(chain, key)
    before, whole = certificate.fingerprint, chain.read_bytes()
    make(tmp_path)
    chain.write_bytes(whole)
    with pytest.raises(CertificateError, match="not a PEM certificate and its unencrypted key"):
        certificate.renew()
    assert certificate.fingerprint == before


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"tls\.crt: cannot be read \(No such file or directory\)"):
        Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
