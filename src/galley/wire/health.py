"""`/healthz`, `/readyz` and `/metrics`: for watchers, not for users."""

import hmac
import ipaddress
from collections.abc import Callable, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from galley.wire.call import call_of
from galley.wire.metrics import CONTENT_TYPE, Metrics

Check = Callable[[], str | None]
"""Asks a part whether it works; None if it does, else what is wrong."""

PATHS = ("/healthz", "/readyz", "/metrics")


def make_health_app(
    checks: Mapping[str, Check], metrics: Metrics, *, metrics_token: str | None = None
) -> Starlette:
    """The watchers' application.

    `/healthz` answers while the process lives; `/readyz` answers 200 only while every check
    passes; `/metrics` answers whoever shows `metrics_token`, or without one, this machine.
    """

    async def healthz(_request: Request) -> Response:
        return _answer(200, {"status": "alive"})

    async def readyz(_request: Request) -> Response:
        faults = await run_in_threadpool(_faults, checks)
        shown = {name: faults.get(name) or "ok" for name in checks}
        if faults:
            return _answer(503, {"status": "not ready", "checks": shown})
        return _answer(200, {"status": "ready", "checks": shown})

    async def read_metrics(request: Request) -> Response:
        if not _may_read(request, metrics_token):
            return _answer(
                403,
                {
                    "status": "forbidden",
                    "message": "Show the bearer token of GALLEY_METRICS_TOKEN, or, where none is"
                    " set, ask from the server's own machine.",
                },
            )
        return Response(await run_in_threadpool(metrics.render), media_type=CONTENT_TYPE)

    endpoints = dict(zip(PATHS, (healthz, readyz, read_metrics), strict=True))
    return Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()]
    )


def _faults(checks: Mapping[str, Check]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            fault = check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the part does not work
            fault = type(error).__name__
        if fault is not None:
            found[name] = fault
    return found


def _may_read(request: Request, token: str | None) -> bool:
    if token is not None:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), token.encode())
    try:
        return ipaddress.ip_address(call_of(request).address or "").is_loopback
    except ValueError:
        return False


def _answer(status: int, document: Mapping[str, object]) -> Response:
    return Response(
        msgspec.json.encode(document), status_code=status, media_type="application/json"
    )
