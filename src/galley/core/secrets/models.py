"""The table of sealed secrets."""

from datetime import datetime

from sqlalchemy import Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from galley.storage.db import Base, Id, UtcTime


class Secret(Base):
    """A sealed value at a path of one scope: `account`, or `kitchen:<id>`.

    `version` counts the writes; it is bound into the seal, so an old value cannot be put back.
    """

    __tablename__ = "secret"
    __table_args__ = (UniqueConstraint("scope", "path"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Id, default=1)
    sealed: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_by: Mapped[int | None] = mapped_column(Id)
