"""Answers that are sent piece by piece, whatever becomes of their reader."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, suppress

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class StreamedAnswer(StreamingResponse):
    """An answer in pieces whose generator is closed when the answer is over, or its reader gone.

    Without that, what the generator holds (files, subscriptions) stays open until the garbage
    collector comes by, which an idle server never lets happen.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str],
        status_code: int = 200,
        media_type: str | None = None,
    ) -> None:
        super().__init__(chunks, status_code, headers, media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, and close the generator however it ends."""
        async with aclosing(self._chunks):
            await super().__call__(scope, receive, send)


async def read_in_threads(chunks: Generator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces of a generator that blocks, each taken in a worker thread; closed at the end.

    One that a thread is still in then is closed when that thread lets go of it.
    """
    try:
        async for chunk in iterate_in_threadpool(chunks):
            yield chunk
    finally:
        with suppress(ValueError):
            chunks.close()
