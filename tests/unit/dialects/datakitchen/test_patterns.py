import pytest

from galley.core.errors import Invalid
from galley.dialects.datakitchen.patterns import search_pattern

UUID = "887d01ba-365e-11e9-8394-0242ac110002"


@pytest.mark.parametrize("text", [None, "", ".*"])
def test_what_matches_everything_is_no_pattern(text):
    assert search_pattern(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "887d",
        "^887D01BA",
        "[0-9a-f]{8}-.*",
        "(887|999).*0002$",
        ".*365e.*",
        r"\d+",
        "(?:[0-9a-f]{4}-){2}",
    ],
)
def test_ordinary_patterns_find_an_order(text):
    assert search_pattern(text).search(UUID)


@pytest.mark.parametrize(
    "text",
    ["(a+)+$", "(a|a)*b", "(.*)*x", "a*b*c*d*e", r"(a)\1", "(?=a)b", "(?:ab|bc){40}", "(a?){30}",
     "((a{9}){9}){9}", "(?P<n>a)(?(n)b|c)", "a" * 201],
)  # fmt: skip
def test_patterns_without_a_bound_are_refused(text):
    with pytest.raises(Invalid, match="search"):
        search_pattern(text)


@pytest.mark.parametrize("text", ["(", "[", "*a", "a{2,1}", "(?P<1>a)", "\\"])
def test_what_is_no_pattern_is_told_so(text):
    with pytest.raises(Invalid, match="no regular expression"):
        search_pattern(text)
