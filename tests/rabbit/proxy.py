"""A TCP proxy between the library and a broker that can be told to misbehave.

    with Proxy(rabbit.node.port) as proxy:
        connection = gamqp.connect(proxy.url(rabbit), …)
        proxy.up.pause()            # the broker stops reading
        proxy.down.pause()          # the broker stops answering
        proxy.up.cut_after(1000)    # reset, 1000 bytes from now, wherever that is in a frame
        proxy.cut()                 # now

`up` is the way to the broker, `down` the way back; an order holds for the connections that exist and for
those to come. Every byte that goes up passes `stream_checker.Stream`, and leaving the block raises what that found.
With `record=WireRecord(folder)` all that passes is kept.

It runs in threads of the operating system, so it goes on while the greenlets of the test sleep, and it shows
whatever the hub is kept from doing. Ban: nothing of gamqp, nothing of greenlets; the process must not be
monkey-patched.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

import stream_checker

CHUNK = 64 * 1024
# Small, so that a pause is felt after little data and not after the megabytes a kernel likes to buffer.
BUFFER = 64 * 1024
_LINGER_RESET = struct.pack('ii', 1, 0)


class Way:
    """One direction of every connection of a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._open = threading.Event()
        self._open.set()
        self._limit: int | None = None
        self._pause_at: int | None = None
        self._reset = True
        self._injected = b''
        self.rate: float | None = None  # bytes per second and connection
        self.bytes = 0
        self.ended = 0  # connections on which this way has come to its end, and passed it on

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def pause_after(self, count: int) -> None:
        """Pause once `count` more bytes have gone this way, in the middle of a frame or not."""
        self._pause_at = self.bytes + count

    def cut_after(self, count: int, reset: bool = True) -> None:
        """Cut every connection once `count` more bytes have gone this way, in the middle of a frame or not."""
        self._limit, self._reset = self.bytes + count, reset

    def inject(self, data: bytes) -> None:
        """Put bytes of ours in front of the next that go this way."""
        self._injected = data

    def _pass(self, data: bytes, to: Any, record: Any) -> bool:
        """Forward. False when this was the end. record: file of what is forwarded, or None."""
        self._open.wait()
        injected, self._injected = self._injected, b''
        data = injected + data
        if self.rate is not None:
            time.sleep(len(data) / self.rate)
        if self._pause_at is not None and self.bytes + len(data) > self._pause_at:
            first = data[: self._pause_at - self.bytes]
            data = data[len(first) :]
            self._pause_at = None
            self._open.clear()
            self.bytes += len(first)
            _write(record, first)
            to.sendall(first)
            self._open.wait()
        cut = self._limit is not None and self.bytes + len(data) >= self._limit
        if cut:
            data = data[: self._limit - self.bytes]  # type: ignore[operator]
        self.bytes += len(data)
        _write(record, data)
        to.sendall(data)
        if cut:
            self._limit = None
            self._proxy.cut(self._reset)
        return not cut


def _write(record: Any, data: bytes) -> None:
    if record is not None:
        record.write(data)


class _Pair:
    """One connection of a client and ours to the broker."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = (client, server)
        self.pumps = 2  # threads that still use them
        self.cut = False

    def end(self, reset: bool) -> None:
        self.cut = True
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
                # Wakes the thread that waits in recv; close alone would not.
                sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        for sock in self.sockets:
            sock.close()


class Proxy:
    """Listens on `port` of 127.0.0.1 and connects through to `target` there."""

    def __init__(self, target: int, frame_max: int = 131072, record: Any = None) -> None:
        self._target = target
        self._frame_max = frame_max
        self._record = record  # a WireRecord, which keeps what passes
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pairs: list[_Pair] = []
        self.streams: list[stream_checker.Stream] = []  # what the client sent, one per connection, in order
        self.errors: list[BaseException] = []
        self.up = Way(self)
        self.down = Way(self)
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def url(self, rabbit: Any) -> str:
        """The URL of this broker, by way of the proxy."""
        return str(rabbit.url).replace(f':{rabbit.node.port}/', f':{self.port}/')

    @property
    def stream(self) -> stream_checker.Stream:
        """What the client sent on the latest connection."""
        return self.streams[-1]

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._pairs)

    def cut(self, reset: bool = True) -> None:
        """End every connection: by RST, or in order (FIN). New ones may come."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.end(reset)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.up.resume()
        self.down.resume()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def check(self) -> None:
        """Raise what was wrong with the client's bytes so far."""
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, exc_type: Any, *exc_info: object) -> None:
        self.close()
        if exc_type is None:
            self.check()

    # -- threads -----------------------------------------------------------------------------------------

    def _start(self, fn: Any, *args: Any) -> None:
        thread = threading.Thread(target=fn, args=args, daemon=True)
        thread.start()
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket()
        for sock in (client, server):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server.connect(('127.0.0.1', self._target))
        except OSError:
            client.close()
            server.close()
            return
        stream = stream_checker.Stream(frame_max=self._frame_max)
        pair = _Pair(client, server)
        with self._lock:
            self.streams.append(stream)
            self._pairs.append(pair)
        up, down = (None, None) if self._record is None else self._record.files()
        self._start(self._pump, pair, client, server, self.up, stream, up)
        self._start(self._pump, pair, server, client, self.down, None, down)

    def _pump(self, pair: _Pair, source: socket.socket, to: socket.socket, way: Way, stream: Any, record: Any) -> None:
        try:
            while data := source.recv(CHUNK):
                if stream is not None:
                    stream.feed(data)
                if not way._pass(data, to, record):
                    return
            way._open.wait()
            if not pair.cut:
                to.shutdown(socket.SHUT_WR)
        except stream_checker.BadStream as error:
            self.errors.append(error)
            self._drop(source, to)
        except OSError:
            # One side is gone: so is the other, as it would be without us.
            self._drop(source, to)
        finally:
            if record is not None:
                record.close()
            with self._lock:
                pair.pumps -= 1
                way.ended += 1
                if not pair.pumps and pair in self._pairs:
                    self._pairs.remove(pair)
                    pair.end(reset=False)

    def _drop(self, *sockets: socket.socket) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
