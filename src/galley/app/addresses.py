"""What to call a server."""

import ipaddress

from galley.settings import Settings


def address_of(settings: Settings, port: int | None = None) -> str:
    """The address under which users reach the server; `port` is the one really listened on."""
    if settings.external_url is not None:
        return settings.external_url
    scheme = "https" if settings.tls_cert is not None else "http"
    host = settings.host
    try:
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1" if "." in host else "::1"
    except ValueError:
        pass
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{settings.port if port is None else port}"
