"""A TCP proxy in front of an NFS server that loses replies: what was asked for is done, and nobody hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final

Address = tuple[str, int]
_CHUNK_BYTES: Final = 1 << 18
_LAST_FRAGMENT: Final = 1 << 31


class ReplyCounter:
    """Counts the replies in a stream of RPC records (record marking: RFC 5531, section 11)."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> int:
        """Return how many records begin in the next bytes of the stream."""
        begun = at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            need = 4 - len(self._head)
            self._head += data[at : at + need]
            at += need
            if len(self._head) == 4:
                mark = int.from_bytes(self._head, "big")
                begun += mark >= _LAST_FRAGMENT
                self._left, self._head = mark % _LAST_FRAGMENT, b""
        return begun


class Proxy:
    """Listens in a thread of its own.

    Attributes
    ----------
    replies_lost, connections_cut : counters
    """

    def __init__(self, listen: Address, server: Address) -> None:
        self.replies_lost = 0
        self.connections_cut = 0
        self._listen = listen
        self._server = server
        self._swallowing = False
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._open())

    def swallow(self, on: bool) -> None:
        """From now on no reply comes through, or all do."""
        self._swallowing = on

    def cut(self) -> None:
        """Close all connections: the guests connect again, and ask again for what they got no reply to."""
        self._call(self._cut())

    def close(self) -> None:
        """Stop listening."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._serve, *self._listen)

    async def _close(self) -> None:
        self._listener.close()
        await self._cut()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            self.connections_cut += 1
            for writer in pair:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, server_writer)
        self._pairs.add(pair)
        pumps = (self._pump(reader, server_writer), self._pump(server_reader, writer, ReplyCounter()))
        await asyncio.gather(*pumps)
        self._pairs.discard(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: ReplyCounter | None = None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                begun = replies.feed(data) if replies else 0
                if replies and self._swallowing:
                    self.replies_lost += begun
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
