"""Seals: they open with their key at their place, and nowhere else."""

import base64
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galley.core.errors import Invalid
from galley.core.secrets import sealing
from galley.core.secrets.sealing import SealBroken, Sealer, open_sealer

OLD, NEW = b"o" * 32, b"n" * 32
SEALER = Sealer(NEW, OLD)


@given(st.binary(max_size=2_000), st.text(max_size=50).filter(lambda t: t.isprintable()))
def test_what_is_sealed_opens_at_its_place(content: bytes, aad: str) -> None:
    sealed = SEALER.seal(content, aad)
    assert SEALER.open(sealed, aad) == content
    with pytest.raises(SealBroken, match="altered or moved"):
        SEALER.open(sealed, aad + "x")


def test_equal_values_look_different_and_hide_what_they_are() -> None:
    texts = {SEALER.seal(b"hunter2 hunter2", "a") for _ in range(50)}
    assert len(texts) == 50
    assert not any("hunter2" in text for text in texts)
    assert not any(base64.b64encode(b"hunter2").decode()[:9] in text for text in texts)


def test_every_damaged_character_is_noticed() -> None:
    sealed = SEALER.seal(b"value", "place")
    for position, character in enumerate(sealed):
        for other in ("A", "."):
            if character == other:
                continue
            damaged = sealed[:position] + other + sealed[position + 1 :]
            try:
                opened = SEALER.open(damaged, "place")
            except SealBroken:
                continue
            # The last character of base64 holds spare bits: then the bytes are the same.
            assert opened == b"value"
            assert sealing._bytes(damaged.rpartition(".")[2]) == sealing._bytes(
                sealed.rpartition(".")[2]
            )


@pytest.mark.parametrize("text", ["", "s1", "s1.a.b.c", "x.y.z.w", "s1...", "é.é.é.é"])
def test_junk_does_not_open(text: str) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(text, "place")


def test_an_older_key_opens_and_rewrapping_moves_to_the_new_one() -> None:
    sealed = Sealer(OLD).seal(b"value", "place")
    assert SEALER.open(sealed, "place") == b"value"
    assert not SEALER.is_current(sealed)
    fresh = SEALER.rewrap(sealed, "place")
    assert SEALER.is_current(fresh)
    assert SEALER.rewrap(fresh, "place") == fresh
    assert Sealer(NEW).open(fresh, "place") == b"value"
    assert fresh.rpartition(".")[2] == sealed.rpartition(".")[2]  # the value is not touched
    with pytest.raises(SealBroken, match="does not have"):
        Sealer(OLD).open(fresh, "place")
    with pytest.raises(SealBroken):
        SEALER.rewrap(sealed, "elsewhere")


def test_a_sealer_does_not_show_its_keys() -> None:
    assert "nnnn" not in repr(SEALER)
    assert "n" * 32 not in str(vars(SEALER).keys())
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(b"short")


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_key_file_is_made_once_for_its_owner(tmp_path: Path) -> None:
    sealed = open_sealer(tmp_path, {}).seal(b"value", "place")
    path = tmp_path / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(path.read_text())) == 32
    assert open_sealer(tmp_path, {}).open(sealed, "place") == b"value"
    assert _names(tmp_path) == ["secret.key"]


def test_many_starting_at_once_share_one_key(tmp_path: Path) -> None:
    start, sealed = threading.Barrier(8), []

    def begin() -> None:
        start.wait(240)
        sealed.append(open_sealer(tmp_path, {}).seal(b"value", "place"))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert len(sealed) == 8
    sealer = open_sealer(tmp_path, {})
    assert all(sealer.open(text, "place") == b"value" for text in sealed)
    assert _names(tmp_path) == ["secret.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    open_sealer(tmp_path, {})
    (tmp_path / "secret.key").chmod(mode)
    with pytest.raises(Invalid, match="chmod 600"):
        open_sealer(tmp_path, {})


@pytest.mark.parametrize("text", ["", "  \n", "short", "not base64!", "eA=="])
def test_a_malformed_key_file_is_refused_with_the_cure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Invalid, match=r"secret\.key (must hold|is empty)") as refused:
        open_sealer(tmp_path, {})
    if text.strip():
        assert text not in str(refused.value)
    assert path.read_text() == text


def test_the_variable_wins_and_can_hold_older_keys(tmp_path: Path) -> None:
    new, old = sealing.new_key_text(), sealing.new_key_text()
    before = open_sealer(tmp_path, {"GALLEY_SECRET_KEY": old}).seal(b"value", "place")
    both = open_sealer(tmp_path, {"GALLEY_SECRET_KEY": f"{new},{old}"})
    assert both.open(before, "place") == b"value"
    assert not both.is_current(before)
    assert _names(tmp_path) == []
    with pytest.raises(Invalid, match="GALLEY_SECRET_KEY must hold"):
        open_sealer(tmp_path, {"GALLEY_SECRET_KEY": "x"})


@pytest.mark.parametrize("place", ["secret_key.written", "secret_key.linked"])
def test_a_start_that_is_killed_leaves_no_half_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(name: str) -> None:
        if name == place:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "failpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            open_sealer(tmp_path, {})
    before = (tmp_path / "secret.key").exists()
    assert before == (place == "secret_key.linked")
    sealed = open_sealer(tmp_path, {}).seal(b"value", "place")
    assert open_sealer(tmp_path, {}).open(sealed, "place") == b"value"
    assert _names(tmp_path) == ["secret.key"]
