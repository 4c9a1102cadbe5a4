"""AWS Signature Version 4: what makes a call to S3 the caller's own.

Our own, since libraries that sign also call, and would call past the guarded client. Source: "AWS
Signature Version 4 for API requests", Amazon S3 API Reference; tried with its published examples.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs; `token` is that of a temporary session."""

    access_key: str
    secret_key: str
    token: str | None = None


def encoded(text: str, *, keep: str = "") -> str:
    """Percent-encoded as signatures want it: all but letters, digits and `-._~`."""
    return quote(text, safe=f"-._~{keep}")


def query_of(pairs: Mapping[str, str]) -> str:
    """A query in the one form that is signed: sorted, percent-encoded."""
    return "&".join(f"{encoded(name)}={encoded(pairs[name])}" for name in sorted(pairs))


def signed(
    credentials: Credentials,
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    region: str,
    at: datetime,
    content_sha256: str = EMPTY_SHA256,
) -> dict[str, str]:
    """These headers and those that sign them. `url` has its path encoded and `query_of` behind."""
    parts = urlsplit(url)
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {name.lower(): value.strip() for name, value in headers.items()}
    sent |= {"host": parts.netloc, "x-amz-content-sha256": content_sha256, "x-amz-date": stamp}
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(sent))
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{sent[name]}" for name in sorted(sent)),
            "",
            names,
            content_sha256,
        )
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    sent["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    return sent
