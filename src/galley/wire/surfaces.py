"""One port, many surfaces: each request goes to the surface whose prefix its path has."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from galley.core.errors import ErrorKind, GalleyError
from galley.wire.edge import HeadersTooLarge, UrlTooLong
from galley.wire.errors import Plain, Render

_EXACT = {UrlTooLong.code: 414, HeadersTooLarge.code: 431}


@dataclass(frozen=True, slots=True)
class Surface:
    """An application, the first segments of its paths (`/v2`), and its shape of errors."""

    name: str
    prefixes: tuple[str, ...]
    app: ASGIApp
    render: Render
    plain: Plain

    def has(self, path: str) -> bool:
        """Whether the path is one of its own."""
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)


class Surfaces:
    """Hands requests to surfaces; the last one listed gets what no prefix claims.

    Implements `edge.Shapes`: what the edge refuses is shown in the surface's own shape.
    """

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        claimed = [prefix for surface in surfaces for prefix in surface.prefixes]
        if len(set(claimed)) < len(claimed):
            raise ValueError(f"two surfaces claim the same prefix: {', '.join(sorted(claimed))}")
        self._surfaces = tuple(surfaces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to its surface."""
        await self._of(scope).app(scope, receive, send)

    def refuse(self, scope: Scope, error: GalleyError) -> Response:
        """A refusal in the surface's shape."""
        surface = self._of(scope)
        if error.kind is ErrorKind.TOO_LARGE and error.code in _EXACT:
            return surface.plain(_EXACT[error.code], error.message)
        return surface.render(error)

    def plain(self, scope: Scope, status: int, text: str) -> Response:
        """A bare status in the surface's shape."""
        return self._of(scope).plain(status, text)

    def _of(self, scope: Scope) -> Surface:
        path = scope["path"]
        for surface in self._surfaces[:-1]:
            if surface.has(path):
                return surface
        return self._surfaces[-1]
