"""A relay in front of a server on loopback that can be away, hang, and come back."""

import socket
import threading
from contextlib import suppress


class Relay:
    """Passes bytes between its own port and the server's, for as long as it is there."""

    def __init__(self, server_port: int) -> None:
        self._server = ("127.0.0.1", server_port)
        self._open: list[socket.socket] = []
        self._hangs = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accept()

    def away(self) -> None:
        """Drop every connection and refuse new ones."""
        self._close(self._listener)
        for each in self._open:
            self._close(each)
        self._open.clear()

    def hang(self) -> None:
        """Drop every connection, take new ones, and answer nothing on them."""
        self._hangs = True
        for each in self._open:
            self._close(each)

    def answer(self) -> None:
        """Drop what hangs, and pass on again."""
        self._hangs = False
        for each in self._open:
            self._close(each)

    def back(self) -> None:
        """Listen again on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept()

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                self._open.append(here)
                if self._hangs:
                    continue
                there = socket.create_connection(self._server)
                self._open.append(there)
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        self._close(one)
        self._close(other)

    @staticmethod
    def _close(one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
