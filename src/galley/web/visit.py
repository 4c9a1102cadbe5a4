"""One request to a page: who is there, what they sent, and how to answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from galley.core.caller import Caller
from galley.core.identity.models import WebSession
from galley.web.rendering import render
from galley.wire.services import Services

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "galley-theme"
FLASHES: Mapping[str, str] = {
    "revoked": "The token is revoked.",
    "password": "The password is changed. Other browsers are signed out.",
    "session": "That browser is signed out.",
    "stopping": "The run is being stopped.",
    "pausing": "The run is paused: no further step starts until it goes on.",
    "unpausing": "The run goes on.",
    "resumed": "This new run goes on where the other one ended.",
    "welcome": "Galley is set up. You are its administrator.",
}
"""What a page says after a redirect; the address carries only the key."""


@dataclass(slots=True)
class Visit:
    """A request with its caller; `csrf` is empty while nobody is signed in."""

    request: Request
    services: Services
    environment: Environment
    caller: Caller
    web_session: WebSession | None = None
    cookie_text: str = ""
    csrf: str = ""
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> Mapping[str, str]:
        """The address's parameters; of repeated ones the last."""
        return self.request.query_params

    @property
    def now(self) -> datetime:
        """The present moment, by the server's clock."""
        return self.services.clock.now()

    @property
    def here(self) -> str:
        """This page's path with its parameters, without those that tell of a deed just done."""
        kept = [(k, v) for k, v in self.request.query_params.multi_items() if k != "done"]
        return self.request.url.path + (f"?{urlencode(kept)}" if kept else "")

    @property
    def theme(self) -> str:
        """The colours that this browser asked for: auto, light or dark."""
        wanted = self.request.cookies.get(THEME_COOKIE, "")
        return wanted if wanted in THEMES else "auto"

    @property
    def external_url(self) -> str | None:
        """The address that browsers use, where it is set because a proxy stands before us."""
        return self.services.settings.external_url

    @property
    def is_partial(self) -> bool:
        """Whether a page that is open asks for its own renewal."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def request_id(self) -> str | None:
        """The name of this request in the server's log."""
        return self.caller.request_id

    def page(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """The template as an answer, with what every page needs."""
        text = render(
            self.environment,
            template,
            visit=self,
            now=self.now,
            flash=FLASHES.get(self.query.get("done", ""), ""),
            **{"section": "", **context},
        )
        return HTMLResponse(text, status_code=status)

    def go(self, path: str, *, done: str | None = None) -> RedirectResponse:
        """After a deed, on to a page (303, so that reloading repeats nothing)."""
        return RedirectResponse(path + (f"?done={done}" if done else ""), status_code=303)
