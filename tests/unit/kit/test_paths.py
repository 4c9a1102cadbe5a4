"""The one rule for names that users choose."""

import pytest

from galley.kit.paths import fault_of_path, fault_of_segment, find_twins


@pytest.mark.parametrize(
    "name",
    ["a", "variables.json", ".gitignore", "é", "a b", "report (1).txt", "名前", "con-fig", "git"],
)
def test_ordinary_names_are_allowed(name: str) -> None:
    assert fault_of_segment(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (".", "leave its folder"),
        ("..", "leave its folder"),
        ("e\u0301", "normal form"),
        ("a\x00", "control"),
        ("a\nb", "control"),
        ("a\u202eb", "invisible"),
        ("a/b", "contains /"),
        ("a\\b", "contains \\"),
        ("C:", "contains :"),
        ("a.", "ends with"),
        ("a ", "ends with"),
        (".git", "git"),
        (".GiT", "git"),
        ("git~1", "git"),
        ("CON", "Windows"),
        ("nul.txt", "Windows"),
        ("LPT1", "Windows"),
        ("x" * 256, "longer"),
    ],
)
def test_dangerous_names_are_refused_with_the_reason(name: str, why: str) -> None:
    fault = fault_of_segment(name)
    assert fault is not None
    assert why in fault


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a//b",
        "a/../b",
        "a/./b",
        "../a",
        "a/",
        "x/" * 30 + "x",
        "a" * 4096,
        "\ud800",
    ],
)
def test_paths_that_cannot_be(path: str) -> None:
    assert fault_of_path(path) is not None


def test_a_path_at_the_limits_is_allowed() -> None:
    assert fault_of_path("/".join("x" * 20)) is None
    assert fault_of_path("/".join("x" * 21)) is not None
    assert fault_of_segment("x" * 255) is None


@pytest.mark.parametrize(
    ("paths", "twins"),
    [
        (["a", "b"], None),
        (["a/x", "a/y"], None),
        (["a", "A"], ("A", "a")),
        (["dir/x", "Dir/y"], ("Dir", "dir")),
        (["a", "A/b"], ("A", "a")),
        (["x", "x/y"], ("x", "x/y")),
        (["straße", "STRASSE"], ("STRASSE", "straße")),
    ],
)
def test_names_that_some_file_systems_confuse(
    paths: list[str], twins: tuple[str, str] | None
) -> None:
    assert find_twins(paths) == twins
