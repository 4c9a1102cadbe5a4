"""Which passwords are good enough, and how they are hashed."""

import threading

import pytest
from argon2 import extract_parameters

from galley.core.identity import passwords
from galley.core.identity.errors import HashingBusy, WeakPassword
from galley.core.identity.passwords import HashingGate


@pytest.mark.parametrize(
    "password",
    [
        "four unrelated words",
        "Tr0ub4dor&3xyz",
        "kJ8fh2LqPz0Wm",
        "пароль из слов",
        "x" * 8 + "abcd12",
    ],
)
def test_good_passwords(password: str) -> None:
    assert passwords.check_strength(password) is None


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("", "at least 12"),
        ("elevenchars", "at least 12"),
        ("w" * 5 + "abcde" * 300, "at most 1024"),
        ("aaaaaaaaaaaaaaaa", "too common"),
        ("abababababababab", "too common"),
        ("password1234", "too common"),
        ("Password12345!", "too common"),
        ("1q2w3e4r5t6y", "too common"),
        ("QWERTYQWERTY", "too common"),
        ("\ud800" * 12, "at least 12"),
    ],
)
def test_weak_passwords_are_told_why(password: str, told: str) -> None:
    with pytest.raises(WeakPassword, match=told):
        passwords.check_strength(password)


def test_the_own_name_is_no_password() -> None:
    with pytest.raises(WeakPassword, match="your own"):
        passwords.check_strength("Bartholomew1999", about=("b@x.org", "b", "bartholomew"))


def test_the_hash_is_argon2id_with_the_agreed_costs() -> None:
    stored = passwords.hash_password("four unrelated words")
    found = extract_parameters(stored)
    assert (found.type.name, found.memory_cost, found.time_cost, found.parallelism) == (
        "ID",
        19 * 1024,
        2,
        1,
    )
    assert passwords.matches(stored, "four unrelated words")
    assert not passwords.matches(stored, "four unrelated word")
    assert not passwords.needs_rehash(stored)


def test_unknown_accounts_cost_the_same_hash() -> None:
    known = extract_parameters(passwords.hash_password("four unrelated words"))
    assert extract_parameters(passwords.NOBODY) == known
    assert not passwords.matches(None, "nobody has this password")


def test_nobody_verifies_exactly_one_hash_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            calls.append(stored)
            return True

    monkeypatch.setattr(passwords, "_HASHER", Counting())
    for stored in (None, "$argon2id$some"):
        for password in ("right", "", "\ud800", "x" * 2_000):
            calls.clear()
            good = passwords.matches(stored, password)
            assert len(calls) == 1
            assert good == (stored is not None and password in {"right", ""})


def test_letters_that_look_alike_are_one_password() -> None:
    stored = passwords.hash_password("caf\u00e9 au lait au lit")
    assert passwords.matches(stored, "cafe\u0301 au lait au lit")


def test_the_gate_lets_two_in_keeps_a_queue_and_sends_the_rest_away() -> None:
    gate = HashingGate(slots=2, queue=3)
    release, inside, served = threading.Event(), threading.Semaphore(0), []

    def work() -> None:
        with gate.slot():
            inside.release()
            release.wait(240)
            served.append(1)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=240)
    assert inside.acquire(timeout=240)
    while gate._places.acquire(blocking=False):  # until all five hold their places
        gate._places.release()
    assert not inside.acquire(blocking=False)
    with pytest.raises(HashingBusy) as refused, gate.slot():
        pass
    assert refused.value.retry_after_s == 1
    release.set()
    for thread in threads:
        thread.join(240)
    assert len(served) == 5
    with gate.slot():
        served.append(1)
    assert len(served) == 6
