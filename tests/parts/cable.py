"""A cable to a server: it can be cut, lose replies, or go silent while both ends think it whole."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Final

_BLOCK: Final = 65_536


class Cable:
    """A TCP port that leads to another, on this machine."""

    def __init__(self, port: int) -> None:
        """Lead to ``port`` from now on."""
        self._to = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: Set while whatever comes is carried; cleared, bytes wait at both ends.
        self._carries = threading.Event()
        self._carries.set()
        self._lose = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._accepts = threading.Thread(target=self._accept, daemon=True)
        self._accepts.start()

    def lead_to(self, port: int) -> None:
        """Lead to another port, as an address does after a failover; cut what leads to the old."""
        self._to = ("127.0.0.1", port)
        self.cut()

    def cut(self) -> None:
        """Cut every connection; new ones may be made."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            # The thread that carries closes it: here it only hears of the end.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def lose_replies(self, count: int = 1) -> None:
        """Carry the next request, and cut its connection in place of the reply; so often."""
        with self._lock:
            self._lose += count

    @property
    def lost_all(self) -> bool:
        """Whether every reply that was to be lost has been."""
        return self._lose == 0

    @contextlib.contextmanager
    def silent(self, *, cut: bool = True) -> Iterator[None]:
        """Carry nothing inside the block, and let nobody notice.

        Then cut what waited, or carry it late.
        """
        self._carries.clear()
        try:
            yield
        finally:
            if cut:
                self.cut()
            self._carries.set()

    def close(self) -> None:
        """Cut everything, for good."""
        # Closed alone, the thread would wait on, by a number that is the next listener's by then.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepts.join()
        self._carries.set()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(self._to) as far:
            with self._lock:
                self._ends |= {near, far}
            try:
                self._carry(near, far)
            finally:
                with self._lock:
                    self._ends -= {near, far}

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """Carry both ways until one end closes or a reply is to be lost."""
        with selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    self._carries.wait()
                    data = key.fileobj.recv(_BLOCK)  # type: ignore[union-attr]
                    if not data or (key.fileobj is far and self._loses()):
                        return
                    key.data.sendall(data)

    def _loses(self) -> bool:
        with self._lock:
            lose = self._lose > 0
            self._lose -= lose
            return lose
