"""Listening to a stream of the pages, without a network between."""

import asyncio


def read_stream(world, cookie, path, *, until, act=None, headers=()):
    """Speak ASGI to a stream until an event comes; its events as (name, id, data)."""

    async def talk():
        found, body = [], b""
        enough = asyncio.Event()
        status = {}

        async def receive():
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal body
            if message["type"] == "http.response.start":
                status.update(message)
                return
            body += message.get("body", b"")
            while b"\n\n" in body:
                block, _, body = body.partition(b"\n\n")
                fields = [line.split(": ", 1) for line in block.decode().split("\n")]
                event = {name.strip(":"): value for name, value in fields if name}
                data = "\n".join(value for name, value in fields if name == "data")
                found.append((event.get("event"), event.get("id"), data))
                if act is not None:
                    act(found)
                if event.get("event") == until:
                    enough.set()

        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8080"), (b"cookie", b"galley=" + cookie.encode())]
            + [(name.encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        async with asyncio.timeout(240):
            await world.app(scope, receive, send)
        return status["status"], found

    return asyncio.run(talk())
