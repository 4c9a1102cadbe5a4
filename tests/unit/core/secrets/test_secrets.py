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
from galley.core.secrets.operations import SecretsMissing
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

    def paths(self, caller: Caller = ADMIN, kitchen=None, below: str = "") -> list[str]:
        with self.database.reading() as session:
            return secrets.list_paths(session, caller, kitchen=kitchen, below=below)

    def resolve(self, *references: str, scopes=(), sealer: Sealer = SEALER) -> dict[str, str]:
        with self.database.reading() as session:
            return secrets.resolve(session, sealer, references, scopes)


@pytest.fixture
def vault(database: Database, manual_clock: ManualClock) -> Vault:
    return Vault(database, manual_clock)


def test_a_secret_is_written_listed_resolved_and_deleted(vault: Vault) -> None:
    assert vault.put("vault://pg/password", "hunter2 é") == 1
    assert vault.put("pg/password", "hunter3") == 2
    assert vault.paths() == ["pg/password"]
    assert vault.resolve("vault://pg/password") == {"vault://pg/password": "hunter3"}
    vault.delete("vault://pg/password")
    assert vault.paths() == []
    with pytest.raises(NotFound, match="vault://pg/password"):
        vault.delete("pg/password")


def test_a_kitchens_own_secret_comes_before_the_accounts(vault: Vault) -> None:
    vault.put("a", "account")
    vault.put("b", "account")
    vault.put("a", "parent", kitchen=Kitchen(1))
    vault.put("a", "child", kitchen=Kitchen(2))
    both = ("vault://a", "vault://b")
    assert vault.resolve(*both) == {"vault://a": "account", "vault://b": "account"}
    assert vault.resolve(*both, scopes=["kitchen:2", "kitchen:1"])["vault://a"] == "child"
    assert vault.resolve(*both, scopes=["kitchen:1"])["vault://a"] == "parent"
    assert vault.resolve(*both, scopes=["kitchen:3", "kitchen:1"])["vault://a"] == "parent"
    assert vault.resolve(*both, scopes=["account", "kitchen:1"])["vault://a"] == "account"


def test_all_missing_secrets_are_named(vault: Vault) -> None:
    vault.put("here")
    vault.put("foreign", kitchen=Kitchen(9))
    with pytest.raises(SecretsMissing, match="vault://foreign, vault://gone"):
        vault.resolve("vault://here", "vault://gone", "vault://foreign", scopes=["kitchen:1"])
    assert vault.resolve() == {}


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
    assert vault.resolve("vault://a", scopes=["kitchen:5"]) == {"vault://a": "good"}


def test_staff_write_and_list_and_strangers_see_nothing(vault: Vault) -> None:
    vault.put("a", "staff", MEMBER, CLOSED)
    assert vault.paths(MEMBER, CLOSED) == ["a"]
    with pytest.raises(NotFound):
        vault.paths(STRANGER, CLOSED)
    assert vault.paths(STRANGER) == []
    assert vault.paths(STRANGER, Kitchen(6)) == []


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
    largest = "x" * (64 * 1024)
    vault.put("a", largest)
    assert vault.resolve("vault://a")["vault://a"] == largest
    with pytest.raises(TooLarge, match="65536"):
        vault.put("a", largest + "x")
    with pytest.raises(Invalid):
        vault.put("a", "\ud800")
    assert vault.put("empty", "") == 1
    assert vault.resolve("vault://empty") == {"vault://empty": ""}
    assert vault.put("nul", "a\x00b\n") == 1
    assert vault.resolve("vault://nul") == {"vault://nul": "a\x00b\n"}


def test_nothing_stored_shows_a_value(vault: Vault) -> None:
    vault.put("pg", "hunter2hunter2")
    with vault.database.reading() as session:
        told = [str(tuple(row)) for row in session.execute(sa.select(Secret.__table__))]
        told += [str(tuple(row)) for row in session.execute(sa.select(audit_entries))]
    assert len(told) == 2
    assert not any("hunter2" in row for row in told)
    with pytest.raises(SealBroken, match="does not have"):
        vault.resolve("vault://pg", sealer=Sealer(b"x" * 32))


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
            vault.resolve("vault://mine")


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
    assert vault.paths(kitchen=Kitchen(1)) == []
    assert vault.paths(kitchen=Kitchen(11)) == ["a"]
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
        found = vault.resolve(f"vault://s{n}", scopes=[f"kitchen:{n + 1}"], sealer=alone)
        assert found == {f"vault://s{n}": f"value {n}"}
    with pytest.raises(SealBroken):
        vault.resolve("vault://s0", scopes=["kitchen:1"])


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
    assert vault.resolve("vault://a") == {"vault://a": "v"}
