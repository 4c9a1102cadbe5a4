"""An account with a line of kitchens, and a vault elsewhere that is a dictionary."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from galley.core.caller import Caller
from galley.core.events.models import audit_entries
from galley.core.identity.actors import system_caller
from galley.core.identity.policy import JUDGE
from galley.core.projects.models import Kitchen, Project
from galley.core.secrets.errors import VaultUnreachable
from galley.core.secrets.models import VaultService
from galley.core.secrets.ports import VaultPlace
from galley.core.secrets.sealing import Sealer
from galley.core.vaults import configuring, operations
from galley.core.vaults.configuring import WantedVault
from galley.core.vaults.desk import Vaults
from galley.core.vaults.finding import Vault
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database

SEALER = Sealer(b"k" * 32)
ADMIN = system_caller()
URL = "https://vault.example.com:8200"


def person(login: str, *roles: str, user_id: int = 7) -> Caller:
    """Somebody with these account roles."""
    return Caller(judge=JUDGE, user_id=user_id, login=login, roles=frozenset(roles or ("member",)))


@dataclass
class Elsewhere:
    """Vaults by url and prefix; whoever asks with another token than `good` is not answered."""

    held: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    database: Database | None = None

    def _of(self, act: str, place: VaultPlace) -> dict[str, str]:
        self.asked.append((act, place.name))
        if self.database is not None:  # nobody holds the one transaction that writes
            with self.database.connection() as connection:
                connection.execute(sa.text("select 1"))
        if place.token != "good":
            raise VaultUnreachable(f"{place.name} did not answer")
        return self.held.setdefault((place.url, place.prefix), {})

    def read(self, place: VaultPlace, paths: Iterable[str]) -> dict[str, str]:
        held = self._of("read", place)
        return {path: held[path] for path in paths if path in held}

    def list_paths(self, place: VaultPlace, below: str = "") -> list[str]:
        return sorted(path for path in self._of("list", place) if path.startswith(below))

    def write(self, place: VaultPlace, path: str, value: str) -> None:
        self._of("write", place)[path] = value

    def delete(self, place: VaultPlace, path: str) -> bool:
        return self._of("delete", place).pop(path, None) is not None


@dataclass
class World:
    """What the tests say, in few words."""

    database: Database
    vaults: Vaults
    elsewhere: Elsewhere

    def kitchen(self, name: str, parent: str | None, **facts: Any) -> int:
        with self.database.writing() as session:
            project = session.scalars(sa.select(Project)).one()
            row = Kitchen(
                uid=new_uid(),
                project_id=project.id,
                name=name,
                parent=parent,
                is_root=parent is None,
                created_at=self.vaults.clock.now(),
                **facts,
            )
            session.add(row)
            session.flush()
            return row.id

    def id_of(self, name: str) -> int:
        with self.database.reading() as session:
            return session.scalars(sa.select(Kitchen.id).where(Kitchen.name == name)).one()

    def configure(
        self, name: str | None, service: str = "default", caller: Caller = ADMIN, **facts: Any
    ) -> None:
        wanted = {name: WantedVault(VaultService(service), **facts)}
        with self.database.writing() as session:
            configuring.configure(session, caller, self.vaults.sealer, wanted, self.vaults.clock)

    def external(self, name: str | None, **facts: Any) -> None:
        self.configure(name, "external", **{"url": URL, "token": "good", "prefix": "p", **facts})

    def remove(self, name: str | None, caller: Caller = ADMIN) -> None:
        with self.database.writing() as session:
            configuring.remove_config(session, caller, name, self.vaults.clock)

    def shown(self, name: str | None, caller: Caller = ADMIN) -> tuple[Vault, Vault | None]:
        with self.database.reading() as session:
            return configuring.show_vaults(session, caller, name)

    def put(
        self, path: str, value: str = "v", kitchen: str | None = None, caller: Caller = ADMIN
    ) -> int | None:
        return operations.write_secret(
            self.vaults, self.database, caller, path=path, value=value, kitchen=kitchen
        )

    def delete(self, path: str, kitchen: str | None = None, caller: Caller = ADMIN) -> None:
        operations.delete_secret(self.vaults, self.database, caller, path=path, kitchen=kitchen)

    def paths(
        self, kitchen: str | None = None, caller: Caller = ADMIN, below: str = ""
    ) -> list[str]:
        return operations.list_secrets(self.vaults, caller, kitchen=kitchen, below=below)

    def value(self, path: str, kitchen: str | None = None) -> str:
        kitchen_id = None if kitchen is None else self.id_of(kitchen)
        reference = f"vault://{path}"
        return operations.resolve_for_run(self.vaults, kitchen_id, [reference])[reference]

    def acts(self) -> list[tuple[str, str, str]]:
        columns = audit_entries.c
        asked = sa.select(columns.action, columns.object_id, columns.outcome).order_by(columns.id)
        with self.database.reading() as session:
            return [tuple(row) for row in session.execute(asked)]


@pytest.fixture
def world(database: Database, manual_clock: ManualClock) -> World:
    """The kitchens master > dev > feature, and closed below master."""
    elsewhere = Elsewhere(database=database)
    made = World(database, Vaults(database, SEALER, elsewhere, manual_clock), elsewhere)
    with database.writing() as session:
        session.add(
            Project(
                uid=new_uid(),
                path="main/recipes",
                default_branch="master",
                created_at=manual_clock.now(),
            )
        )
    made.kitchen("master", None)
    made.kitchen("dev", "master")
    made.kitchen("feature", "dev")
    made.kitchen("closed", "master", staff=["ann@example.org"], roles={})
    return made
