"""Files behind HTTP(S): downloads, uploads and calls, through the guarded client."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from galley.core.errors import GalleyError, Unavailable
from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result
from galley.engine.connectors.file import FORMATS_BY_MEDIA_TYPE, media_type, shaped
from galley.engine.faults import StepError
from galley.engine.outbound import Answer, OutboundClient

_REDIRECTS = 5
_MAX_RESULT_BYTES = 1024 * 1024
_DEADLINE_S = 1800.0
_ANY_STATUS_ERROR = 400
_SERVER_ERROR = 500
_TRY_LATER = frozenset({408, 425, 429})


class HttpConnector:
    """Downloads (`read_file`), uploads (`write_file`) and calls (`scalar`, `statement`).

    Configuration: `url` (the base; a key's `path` is joined to it), `headers`, `username` and
    `password`, or `token` (Bearer). Options of a key: `method`, `body`, `headers`, `timeout-s`,
    `max-bytes`, `delimiter`, `encoding`, `null`.
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"read_file"}),
        writes=frozenset({"write_file"}),
        runs=frozenset({"scalar", "statement"}),
        options=frozenset(
            {"method", "body", "headers", "timeout-s", "max-bytes", "delimiter", "encoding", "null"}
        ),
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client = OutboundClient(place.outbound)

    def test(self, config: dict[str, Any]) -> None:
        """The base address answers, whatever it says except that we may not come in."""
        answer = self._call("HEAD", config, KeySpec("test", "read_file"))
        if answer.status in {401, 403}:
            raise StepError(_refusal(answer))

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Refuse: a web server has no list of its files."""
        del config
        raise StepError(f"The wildcard {pattern} does not go with HTTP; name the keys.")

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Download to a file; its format comes from the key, the address or the content type."""
        target = into / "content"
        with target.open("xb") as file:
            answer = self._call(_method(key, "GET"), config, key, into=file)
        _must_succeed(answer)
        path = answer.url.partition("?")[0]
        layout = tables.format_of(path, key.format)
        media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if layout == "binary" and key.format is None:
            layout = FORMATS_BY_MEDIA_TYPE.get(media, "binary")
        style = tables.csv_style(key.options, path, key.header)
        return Batch(target, layout, csv=style, is_file=True, wish_header=key.header)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Upload the batch as the body of a PUT (or the key's `method`)."""
        written = shaped(self._place, batch, key, key.path or "")
        size = written.path.stat().st_size
        with written.path.open("rb") as file:
            answer = self._call(
                _method(key, "PUT"),
                config,
                key,
                content=file,
                headers={"content-type": media_type(written.format), "content-length": str(size)},
            )
        _must_succeed(answer)
        return written

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Make a call; the value is the answer's JSON, or its text."""
        content, headers = _body(key)
        method = _method(key, "POST" if content else "GET")
        answer = self._call(
            method, config, key, content=content, headers=headers, max_bytes=_MAX_RESULT_BYTES
        )
        _must_succeed(answer)
        return Result(value=_value(answer))

    def _call(
        self,
        method: str,
        config: dict[str, Any],
        key: KeySpec,
        *,
        headers: dict[str, str] | None = None,
        max_bytes: int | None = None,
        **extra: Any,
    ) -> Answer:
        url = urljoin(str(config.get("url") or ""), key.path or "")
        sent = {**_headers(config, key), **(headers or {})}
        try:
            return self._client.request(
                method,
                url,
                headers=sent,
                redirects=_REDIRECTS if method in {"GET", "HEAD"} else 0,
                deadline_s=float(key.options.get("timeout-s") or _DEADLINE_S),
                max_bytes=max_bytes or int(key.options.get("max-bytes") or 0) or None,
                **extra,
            )
        except StepError:
            raise
        except GalleyError as error:
            raise StepError(error.message, retryable=isinstance(error, Unavailable)) from error


def _method(key: KeySpec, usual: str) -> str:
    return str(key.options.get("method") or usual).upper()


def _headers(config: dict[str, Any], key: KeySpec) -> dict[str, str]:
    own = {**(config.get("headers") or {}), **(key.options.get("headers") or {})}
    headers = {str(name).lower(): str(value) for name, value in own.items()}
    if config.get("token"):
        headers.setdefault("authorization", f"Bearer {config['token']}")
    elif config.get("username"):
        pair = f"{config['username']}:{config.get('password') or ''}".encode()
        headers.setdefault("authorization", f"Basic {base64.b64encode(pair).decode()}")
    return headers


def _body(key: KeySpec) -> tuple[bytes | None, dict[str, str]]:
    import msgspec

    body = key.options.get("body")
    if body is None:
        return None, {}
    if isinstance(body, str):
        return body.encode(), {}
    return msgspec.json.encode(body), {"content-type": "application/json"}


def _value(answer: Answer) -> Any:
    import msgspec

    if "json" in answer.headers.get("content-type", ""):
        try:
            return msgspec.json.decode(answer.body)
        except msgspec.DecodeError as error:
            raise StepError(f"The answer of {answer.url} is not valid JSON: {error}.") from error
    return answer.body.decode("utf-8", errors="replace")


def _must_succeed(answer: Answer) -> None:
    if answer.status >= _ANY_STATUS_ERROR or answer.status in range(300, 400):
        late = answer.status >= _SERVER_ERROR or answer.status in _TRY_LATER
        raise StepError(_refusal(answer), retryable=late)


def _refusal(answer: Answer) -> str:
    cures = {
        401: "Check username, password or token.",
        403: "Check username, password or token.",
        404: "Check `url` and `path`.",
    }
    cure = cures.get(answer.status, "Look at what the server says, or try again later.")
    return f"{answer.url} answered {answer.status}. {cure}"
