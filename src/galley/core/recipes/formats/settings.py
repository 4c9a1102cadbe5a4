"""What each system's `config` and keys may say beside what all of them know.

The readers of `endpoints` do not look at these: the connectors do, when the step runs.
"""

_TEXT_FILE = frozenset({"delimiter", "encoding", "null"})
_DATABASE_FILE = frozenset({"database", "path", "lock-wait-s"})

CONFIG: dict[str, frozenset[str]] = {
    "file": frozenset({"folder"}),
    "http": frozenset({"url", "headers", "username", "password", "token"}),
    "sqlite": _DATABASE_FILE,
    "duckdb": _DATABASE_FILE,
    "postgres": frozenset(
        {
            "hostname", "host", "port", "database", "username", "user", "password", "sslmode",
            "schema", "connect-timeout-s",
        }
    ),
    "dictionary": frozenset({"bucket-name"}),
    "ftp": frozenset({"hostname", "host", "port", "username", "password", "tls"}),
    "s3": frozenset(
        {
            "bucket", "access-key", "secret-key", "aws-session-token", "public-bucket", "region",
            "endpoint-url",
        }
    ),
    "shell": frozenset({"environment", "network"}),
}  # fmt: skip
"""Keys of `config`; a system that is not here is not judged."""

CONFIG_LATER: dict[str, frozenset[str]] = {
    "postgres": frozenset({"cluster", "region", "access-key", "secret-key", "aws-session-token"}),
}
"""Keys of `config` that the vendor knows and that do nothing yet."""

OPTIONS: dict[str, frozenset[str]] = {
    "file": _TEXT_FILE | {"append"},
    "http": _TEXT_FILE | {"method", "body", "headers", "timeout-s", "max-bytes"},
    "sqlite": frozenset({"write-mode"}),
    "duckdb": frozenset({"write-mode"}),
    "postgres": frozenset({"write-mode", "timeout-s"}),
    "dictionary": frozenset(),
    "ftp": _TEXT_FILE,
    "s3": _TEXT_FILE,
    "shell": _TEXT_FILE | {"timeout-s"},
}
"""Keys of a key (a query, a file) that only this system knows."""

OPTIONS_LATER = frozenset({"cache"})
