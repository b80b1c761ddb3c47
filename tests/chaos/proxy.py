"""A bad network between one member of a fleet and Postgres: it loses answers, falls silent, is cut, is slow.

It listens on a port of the loopback and passes on to Postgres's socket.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from psycopg import conninfo

Test = Callable[[bytes], bool]


class Pair:
    """One connection: both sockets, and whether its answers are lost from here on."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.mute = False

    def close(self) -> None:
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Proxy:
    """`dsn` leads through it. Connections stay open in a silence, as they do when a cable is pulled."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo.conninfo_to_dict(dsn)
        self._behind = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = conninfo.make_conninfo(dsn, host="127.0.0.1", port=self._listener.getsockname()[1])
        self._pairs: list[Pair] = []
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._deaf = False
        self._late: Callable[[], float] = lambda: 0.0
        self._watch: tuple[str, Test, bool] | None = None
        self.hit = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            pair.close()

    def silence(self) -> None:
        """Nothing passes in either direction, and nobody is told; new connections hang."""
        self._open.clear()

    def lose_all_answers(self) -> None:
        """What the host says arrives, and it hears nothing."""
        self._deaf = True

    def delay(self, late: Callable[[], float]) -> None:
        """Everything is late by so many seconds, asked for each piece anew; what follows a piece waits for it."""
        self._late = late

    def heal(self) -> None:
        """What was under way when it fell silent is lost: those connections are cut, new ones pass."""
        for pair in self._pairs:
            pair.close()
        self._pairs.clear()
        self._deaf = False
        self._open.set()

    def lose_answer(self, test: Test) -> None:
        """Of the first connection on which Postgres says something that passes the test: that and all that follows."""
        self._watch = ("answer", test, False)

    def lose_answer_to(self, test: Test) -> None:
        """The same, chosen by what the client asks; the question arrives."""
        self._watch = ("question", test, False)

    def silence_at_answer(self, test: Test) -> None:
        """When Postgres says something that passes the test, the whole network falls silent, before it arrives."""
        self._watch = ("answer", test, True)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._begin, args=(client,), daemon=True).start()

    def _begin(self, client: socket.socket) -> None:
        self._open.wait()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._behind)
        except OSError:
            client.close()
            server.close()
            return
        pair = Pair(client, server)
        self._pairs.append(pair)
        there = threading.Thread(target=self._pump, args=(pair, client, server, "question"), daemon=True)
        there.start()
        self._pump(pair, server, client, "answer")
        there.join()
        client.close()
        server.close()

    def _pump(self, pair: Pair, source: socket.socket, target: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._look(pair, direction, data)
                threading.Event().wait(self._late())
                self._open.wait()
                if direction == "question" or not (pair.mute or self._deaf):
                    target.sendall(data)
        pair.close()

    def _look(self, pair: Pair, direction: str, data: bytes) -> None:
        if self._watch is None or self._watch[0] != direction or not self._watch[1](data):
            return
        silence = self._watch[2]
        self._watch = None
        if silence:
            self.silence()
        else:
            pair.mute = True
        self.hit.set()
