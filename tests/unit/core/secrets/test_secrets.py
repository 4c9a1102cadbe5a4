"""Writing, listing and resolving secrets."""

from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from galley.core.caller import Caller
from galley.core.errors import Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from galley.core.events import audit
from galley.core.events.models import audit_entries
from galley.core.identity.actors import nobody, system_caller
from galley.core.identity.policy import JUDGE
from galley.core.secrets import operations as secrets
from galley.core.secrets.models import Secret
from galley.core.secrets.sealing import SealBroken, Sealer
from galley.kit.clock import ManualClock
from galley.storage.db import Database

SEALER = Sealer(b"k" * 32)
ADMIN = system_caller()
MEMBER = Caller(judge=JUDGE, user_id=7, login="ann@example.org", roles=frozenset({"member"}))
STRANGER = Caller(judge=JUDGE, user_id=8, login="eve@example.org", roles=frozenset({"member"}))


@dataclass
class Kitchen:
    id: int
    name: str = "dev"
    project_id: int = 1
    staff: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)

    def policy_kind(self) -> str:
        return "kitchen"


CLOSED = Kitchen(5, staff=["Ann@example.org"])


@dataclass
class Vault:
    database: Database
    clock: ManualClock

    def put(self, path: str, value: str = "v", caller: Caller = ADMIN, kitchen=None) -> int:
        with self.database.writing() as session:
            return secrets.put_secret(
                session, caller, SEALER, path=path, value=value, clock=self.clock, kitchen=kitchen
            )

    def delete(self, path: str, caller: Caller = ADMIN, kitchen=None) -> None:
        with self.database.writing() as session:
            secrets.delete_secret(session, caller, path=path, clock=self.clock, kitchen=kitchen)

    def paths(self, scope: str = "account", below: str = "") -> list[str]:
        with self.database.reading() as session:
            return secrets.paths_of(session, scope, below)

    def open(self, *paths: str, scope: str = "account", sealer: Sealer = SEALER) -> dict[str, str]:
        with self.database.reading() as session:
            return secrets.open_values(session, sealer, scope, paths)


@pytest.fixture
def vault(database: Database, manual_clock: ManualClock) -> Vault:
    return Vault(database, manual_clock)


def test_a_secret_is_written_listed_opened_and_deleted(vault: Vault) -> None:
    assert vault.put("vault://pg/password", "hunter2 é") == 1
    assert vault.put("pg/password", "hunter3") == 2
    assert vault.paths() == ["pg/password"]
    assert vault.open("pg/password", "none") == {"pg/password": "hunter3"}
    vault.delete("vault://pg/password")
    assert vault.paths() == []
    with pytest.raises(NotFound, match="vault://pg/password"):
        vault.delete("pg/password")


def test_each_scope_has_its_own(vault: Vault) -> None:
    vault.put("a", "account")
    vault.put("a", "kitchen", kitchen=Kitchen(1))
    assert vault.open("a") == {"a": "account"}
    assert vault.open("a", scope="kitchen:1") == {"a": "kitchen"}
    assert vault.open("a", scope="kitchen:2") == {}


@pytest.mark.parametrize(
    ("caller", "kitchen", "refused"),
    [
        (nobody(), None, Unauthenticated),
        (MEMBER, None, Forbidden),
        (STRANGER, CLOSED, NotFound),
        (nobody(), CLOSED, Unauthenticated),
    ],
)
def test_who_may_not_write(vault: Vault, caller: Caller, kitchen, refused) -> None:
    vault.put("a", "good", kitchen=kitchen)
    with pytest.raises(refused):
        vault.put("a", "evil", caller, kitchen)
    with pytest.raises(refused):
        vault.delete("a", caller, kitchen)
    assert vault.open("a", scope=secrets.scope_of(kitchen)) == {"a": "good"}


def test_staff_write(vault: Vault) -> None:
    vault.put("a", "staff", MEMBER, CLOSED)
    assert vault.paths("kitchen:5") == ["a"]
    assert vault.paths() == []


def test_lists_are_sorted_and_can_begin_below_a_path(vault: Vault) -> None:
    for path in ("b/x", "a", "b/y/z", "bc", "b"):
        vault.put(path)
    assert vault.paths() == ["a", "b", "b/x", "b/y/z", "bc"]
    assert vault.paths(below="vault://b/") == ["b", "b/x", "b/y/z"]
    assert vault.paths(below="b/y") == ["b/y/z"]


def test_paths_that_can_be() -> None:
    for path in ("a", "a/b-c_d.e/9", "x" * 255, "v1.2/..a"):
        assert secrets.checked_path(path) == path
        assert secrets.checked_path(f"vault://{path}") == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "a/", "/a", "a//b", "..", "a/../b", ".", "a b", "é", "a\n", "x" * 256),
        *("vault://", "\x00", "\ud800", "{{x}}", "a'--", "a/" * 100_000),
    ],
)
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(Invalid, match="cannot be a secret's path"):
        secrets.checked_path(path)


def test_values_have_a_limit_and_are_text(vault: Vault) -> None:
    largest = "é" * (512 * 1024)
    vault.put("a", largest)
    assert vault.open("a")["a"] == largest
    with pytest.raises(TooLarge, match="1048576"):
        vault.put("a", largest + "x")
    with pytest.raises(Invalid):
        vault.put("a", "\ud800")
    assert vault.put("empty", "") == 1
    assert vault.open("empty") == {"empty": ""}
    assert vault.put("nul", "a\x00b\n") == 1
    assert vault.open("nul") == {"nul": "a\x00b\n"}


def test_nothing_stored_shows_a_value(vault: Vault) -> None:
    vault.put("pg", "hunter2hunter2")
    with vault.database.reading() as session:
        told = [str(tuple(row)) for row in session.execute(sa.select(Secret.__table__))]
        told += [str(tuple(row)) for row in session.execute(sa.select(audit_entries))]
    assert len(told) == 2
    assert not any("hunter2" in row for row in told)
    with pytest.raises(SealBroken, match="does not have"):
        vault.open("pg", sealer=Sealer(b"x" * 32))


def test_a_sealed_value_cannot_be_moved_or_put_back(vault: Vault) -> None:
    vault.put("mine", "low")
    vault.put("theirs", "high")
    with vault.database.reading() as session:
        rows = {row.path: row for row in session.scalars(sa.select(Secret))}
    vault.put("mine", "newer")
    for stolen in (rows["theirs"].sealed, rows["mine"].sealed):
        with vault.database.writing() as session:
            session.execute(sa.update(Secret).where(Secret.path == "mine").values(sealed=stolen))
        with pytest.raises(SealBroken, match="altered or moved"):
            vault.open("mine")


def test_acts_are_audited_with_the_path_only(vault: Vault) -> None:
    vault.put("pg", kitchen=Kitchen(5))
    vault.delete("pg", kitchen=Kitchen(5))
    with vault.database.reading() as session:
        rows = session.execute(sa.select(audit_entries).order_by(audit_entries.c.id)).all()
        assert audit.verify(session) is None
    assert [(row.action, row.object_id) for row in rows] == [
        ("secret.write", "kitchen:5:pg@1"),
        ("secret.delete", "kitchen:5:pg"),
    ]


def test_a_deleted_kitchen_takes_its_secrets_along(vault: Vault) -> None:
    vault.put("a")
    vault.put("a", kitchen=Kitchen(1))
    vault.put("b", kitchen=Kitchen(1))
    vault.put("a", kitchen=Kitchen(11))
    with vault.database.writing() as session:
        assert secrets.delete_scope(session, Kitchen(1)) == 2
    assert vault.paths("kitchen:1") == []
    assert vault.paths("kitchen:11") == ["a"]
    assert vault.paths() == ["a"]


def test_a_change_of_key_rewraps_everything(vault: Vault) -> None:
    for n in range(5):
        vault.put(f"s{n}", f"value {n}", kitchen=Kitchen(n + 1))
    changed = Sealer(b"n" * 32, b"k" * 32)
    with vault.database.writing() as session:
        assert secrets.rewrap_all(session, changed) == 5
        assert secrets.rewrap_all(session, changed) == 0
    alone = Sealer(b"n" * 32)
    for n in range(5):
        found = vault.open(f"s{n}", scope=f"kitchen:{n + 1}", sealer=alone)
        assert found == {f"s{n}": f"value {n}"}
    with pytest.raises(SealBroken):
        vault.open("s0", scope="kitchen:1")


def test_a_failed_change_of_key_changes_nothing(vault: Vault) -> None:
    vault.put("a")
    vault.put("b")
    with vault.database.writing() as session:
        session.execute(sa.update(Secret).where(Secret.path == "b").values(sealed="s1.x.y.z"))

    def rewrap() -> None:
        with vault.database.writing() as session:
            secrets.rewrap_all(session, Sealer(b"n" * 32, b"k" * 32))

    with pytest.raises(SealBroken):
        rewrap()
    assert vault.open("a") == {"a": "v"}
