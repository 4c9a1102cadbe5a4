"""Secrets do not come through, however they are spelled and cut."""

import base64
import itertools
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galley.engine.executors.local.masking import MASK, Masker

SECRET = 'p@ss w0rd/&"é\\x'


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_spellings(spelled):
    masked = Masker([SECRET]).mask_text(f"<{spelled}>")
    assert "[masked]" in masked
    for part in (SECRET, "w0rd", spelled.strip('"{}a: ')):
        assert part not in masked


@given(before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_inside_a_longer_text(before, after):
    secret = "correct horse battery"
    whole = base64.b64encode(before + secret.encode() + after)
    masked = Masker([secret]).mask(whole)
    assert MASK in masked
    assert len(masked.replace(MASK, b"")) <= len(whole) - 24


def test_each_line_of_a_long_secret():
    secret = "-----BEGIN-----\nabcdefgh\nij\n-----END-----"
    masked = Masker([secret]).mask_text("x abcdefgh y\nij -----END-----")
    assert masked == "x [masked] y\nij [masked]"


def test_short_secrets_are_counted_not_masked():
    masker = Masker(["abc", "", "long enough"])
    assert masker.too_short == 1
    assert masker.mask_text("abc long enough") == "abc [masked]"


def test_nothing_is_held_back_without_need():
    stream = Masker(["secret"]).stream()
    assert stream.feed(b"plain text") == b"plain text"
    assert stream.feed(b"ends in sec") == b"ends in "
    assert stream.feed(b"ond") == b"second"
    assert stream.flush() == b""


SECRETS = ["abcabc", "bcabcd", "aaaa", "abcabcde"]


@given(
    text=st.text(alphabet="abcde", max_size=60).map(str.encode),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_cuts_make_no_difference(text, cuts):
    masker = Masker(SECRETS)
    stream = masker.stream()
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    shown = b"".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(places))
    assert shown + stream.flush() == masker.mask(text)


@given(st.binary(max_size=300))
def test_what_is_shown_is_bounded(data):
    stream = Masker(["aaaa"]).stream()
    shown = b"".join(stream.feed(b"a" * 1000) for _ in range(10)) + stream.feed(data)
    assert len(shown + stream.flush()) <= 8 * 11 + 8 * len(data) + len(data)
