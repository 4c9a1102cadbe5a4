"""Projects (git repositories) and kitchens (branches, with the settings that are not in git)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Integer, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from galley.storage.db import Base, Document, Id, UtcTime, metadata


class Project(Base):
    """A git repository and its name, `group/project`.

    `alerts` are those of every run in its kitchens (see `Kitchen.alerts`); None: there are none.
    """

    __tablename__ = "project"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)
    path: Mapped[str] = mapped_column(Text, unique=True)
    default_branch: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    alerts: Mapped[dict[str, list[str]] | None] = mapped_column(Document)

    def policy_kind(self) -> str:
        """The word the policy table uses for it."""
        return "project"


class Kitchen(Base):
    """A branch of a project, and everything about it that git does not hold.

    `parent` is a kitchen's name; it is None for the root and for an orphan, whose parent was
    deleted. An empty `staff` opens the kitchen to every member. `alerts` maps an event (see
    `checks.ALERT_EVENTS`) to destinations. `max_runs` None means as many at once as there are.
    With `restrict_recipes` only the recipes named in `recipes` are there.
    """

    __tablename__ = "kitchen"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)
    project_id: Mapped[int] = mapped_column(Id, ForeignKey("project.id"), index=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    parent: Mapped[str | None] = mapped_column(Text)
    is_root: Mapped[bool] = mapped_column(Boolean, default=False)
    description: Mapped[str] = mapped_column(Text, default="")
    staff: Mapped[list[str]] = mapped_column(Document, default=list)
    roles: Mapped[dict[str, str]] = mapped_column(Document, default=dict)
    overrides: Mapped[dict[str, Any]] = mapped_column(Document, default=dict)
    alerts: Mapped[dict[str, list[str]]] = mapped_column(Document, default=dict)
    settings: Mapped[dict[str, Any]] = mapped_column(Document, default=dict)
    max_runs: Mapped[int | None] = mapped_column(Integer)
    restrict_recipes: Mapped[bool] = mapped_column(Boolean, default=False)
    recipes: Mapped[list[str]] = mapped_column(Document, default=list)
    created_by: Mapped[int | None] = mapped_column(Id)
    created_by_login: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcTime)

    def policy_kind(self) -> str:
        """The word the policy table uses for it."""
        return "kitchen"


dialect_attributes = Table(
    "dialect_attribute",
    metadata,
    Column("owner", Text, primary_key=True),  # kitchen:7
    Column("dialect", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Document),
)
"""What only one vendor's API knows of an object; Galley keeps it and does nothing with it."""
