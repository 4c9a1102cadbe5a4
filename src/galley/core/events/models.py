"""The tables of events: the audit chain and the idempotency keys. Plain tables, written in bulk."""

from sqlalchemy import Boolean, Column, Index, Integer, Table, Text

from galley.storage.db import Id, UtcTime, metadata

audit_entries = Table(
    "audit_entry",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),  # 1, 2, 3, ...: no gaps
    Column("at", UtcTime, nullable=False),
    Column("actor_id", Id),
    Column("actor", Text, nullable=False),
    Column("token_id", Id),
    Column("token_kind", Text),
    Column("address", Text),
    Column("request_id", Text),
    Column("action", Text, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # done, denied
    Column("before_digest", Text),
    Column("after_digest", Text),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index(None, "at"),
    Index(None, "object_kind", "object_id", "id"),
    Index(None, "actor_id", "id"),
)

audit_heads = Table(
    "audit_head",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_id", Id, nullable=False),
    Column("last_hash", Text, nullable=False),
    Column("base_id", Id, nullable=False),  # the newest entry that retention removed
    Column("base_hash", Text, nullable=False),
)
"""One row: the chain's end, locked while it grows, and where the kept part begins."""

idempotency_keys = Table(
    "idempotency_key",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("answer", Text, nullable=False),  # base64, or sealed
    Column("is_sealed", Boolean, nullable=False),
    # Whole microseconds since 1970, not UtcTime: the row travels as plain JSON inside messages.
    Column("created_us", Id, nullable=False),
    Index(None, "created_us"),
)
