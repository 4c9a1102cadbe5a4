import json

import pytest

from galley.core.recipes.documents import MAX_BYTES, MAX_DEPTH, decode, parse_json
from galley.core.recipes.faults import SourceFault


def test_a_plain_document_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "x"]}', "f.json") == {
        "a": [1, 2.5, None, True, "x"]
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "key 'a' twice"),
        ('{"x": {"b": 1, "b": 1}}', "key 'b' twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1,}', "line 1, column"),
        ("{\n  'a': 1}", "line 2, column 3"),
        ("", "line 1, column 1"),
        ('{"a": ' + "9" * 1_000_000 + "}", "1000000 digits"),
        ('{"a": 18446744073709551616}', "20 digits"),
        ('"\\ud800"', "surrogate"),
        ('{"a": ["x\\u0000"]}', "NUL"),
        ('{"a\\u0000": 1}', "NUL"),
        ("[" * 100 + "]" * 100, "deeper"),
        ("[" * 100_000 + "]" * 100_000, "deeper"),
    ],
)
def test_what_is_no_sound_json_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SourceFault) as caught:
        parse_json(text, "f.json")
    assert caught.value.file == "f.json"
    assert says in caught.value.text


def test_the_deepest_allowed_document_passes() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(text, "f.json")) == text
    with pytest.raises(SourceFault):
        parse_json(f"[{text}]", "f.json")


def test_the_largest_allowed_integers_pass() -> None:
    assert parse_json("[18446744073709551615, -9223372036854775808]", "f") == [
        2**64 - 1,
        -(2**63),
    ]


def test_bytes_are_read_as_utf8_with_or_without_a_mark() -> None:
    assert decode("\ufeffé".encode(), "f") == "é"
    with pytest.raises(SourceFault, match="not UTF-8"):
        decode(b"\xff\xfe", "f")
    with pytest.raises(SourceFault, match="larger than"):
        decode(b"x" * (MAX_BYTES + 1), "f")
    assert len(decode(b"x" * MAX_BYTES, "f")) == MAX_BYTES
