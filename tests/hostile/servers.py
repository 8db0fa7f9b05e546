"""Servers of a tenant: they answer every request with the same bytes, or with bytes that never end."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ENDLESS = None
"""As a body: bytes that never end."""


@contextmanager
def server(host: str, port: int, body: bytes | None, *, status: str = "200 OK", headers: str = "") -> Iterator[None]:
    """Answer every request on `host:port` with `body` while the block runs."""
    listener = socket.create_server((host, port), backlog=256)
    listener.settimeout(0.2)
    stop = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            received = b""
            while b"\r\n\r\n" not in received:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return
                received += chunk
            length = "" if body is ENDLESS else f"Content-Length: {len(body)}\r\n"
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{length}{headers}\r\n"
            connection.sendall(head.encode("latin-1", errors="replace"))
            if body is not ENDLESS:
                connection.sendall(body)
                connection.shutdown(socket.SHUT_WR)
                return
            connection.sendall(b'{"data": "')
            while not stop.is_set():
                connection.sendall(b"x" * (1 << 16))

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        listener.close()
