from datetime import UTC, datetime, timedelta

import pytest

from galley.web import tail

START = datetime(2026, 11, 23, 22, 0, 0, tzinfo=UTC)
EVERYTHING = tail.LEVELS["debug"]


def line(second, text, level="I"):
    at = (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{at} {level} {text}\n"


def log_file(folder, attempt_id, text, step="load"):
    path = folder / f"{attempt_id}.log"
    path.write_text(text)
    return tail.LogFile(attempt_id, step, path)


def texts(found):
    return [entry.text for entry in found.lines]


def test_lines_of_several_files_come_in_order_of_time(tmp_path):
    files = [
        log_file(tmp_path, 1, line(1, "a") + line(3, "c"), "one"),
        log_file(tmp_path, 2, line(2, "b"), "two"),
    ]
    found = tail.newest(files, EVERYTHING)
    assert texts(found) == ["a", "b", "c"]
    assert [entry.step_key for entry in found.lines] == ["one", "two", "one"]
    assert not found.is_cut


def test_reading_goes_on_where_it_stopped(tmp_path):
    file = log_file(tmp_path, 1, line(1, "a") + line(2, "b")[:-4])
    first = tail.newest([file], EVERYTHING)
    assert texts(first) == ["a"]
    with file.path.open("a") as handle:
        handle.write(line(2, "b")[-4:] + line(3, "c"))
    second = tail.following([file], tail.parse_cursor(first.cursor), EVERYTHING)
    assert texts(second) == ["b", "c"]
    assert texts(tail.following([file], second.offsets, EVERYTHING)) == []


def test_any_cut_of_a_log_gives_every_line_exactly_once(tmp_path):
    whole = "".join(line(second, f"line {second} äöü") for second in range(7)).encode()
    for cut in range(len(whole) + 1):
        path = tmp_path / f"{cut}.log"
        path.write_bytes(whole[:cut])
        file = tail.LogFile(cut, "load", path)
        first = tail.newest([file], EVERYTHING)
        path.write_bytes(whole)
        second = tail.following([file], first.offsets, EVERYTHING)
        assert texts(first) + texts(second) == [f"line {second} äöü" for second in range(7)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", "dioew"), ("info", "ioew"), ("warning", "ew"), ("error", "e")],
)
def test_the_level_lets_through_what_is_at_least_as_grave(tmp_path, level, expected):
    text = "".join(line(1, letter.lower(), letter) for letter in "DIOEW")
    found = tail.newest([log_file(tmp_path, 1, text)], tail.LEVELS[level])
    assert "".join(texts(found)) == expected


def test_a_filtered_line_is_not_read_twice(tmp_path):
    file = log_file(tmp_path, 1, line(1, "quiet", "D"))
    found = tail.newest([file], tail.LEVELS["error"])
    assert found.lines == ()
    assert found.offsets == {1: file.path.stat().st_size}


def test_only_the_newest_lines_of_a_long_log_are_shown(tmp_path):
    file = log_file(tmp_path, 1, "".join(line(n, f"n{n}") for n in range(2000)))
    found = tail.newest([file], EVERYTHING)
    assert texts(found) == [f"n{n}" for n in range(1500, 2000)]
    assert found.is_cut


def test_a_line_without_end_is_passed_over(tmp_path):
    file = log_file(tmp_path, 1, "x" * 300_000)
    found = tail.following([file], {1: 0}, EVERYTHING)
    assert found.offsets == {1: 256 * 1024}
    with file.path.open("a") as handle:
        handle.write("\n" + line(1, "after"))
    assert texts(tail.following([file], found.offsets, EVERYTHING)) == ["after"]


def test_a_file_that_is_not_there_yet_begins_at_its_start(tmp_path):
    file = tail.LogFile(7, "load", tmp_path / "7.log")
    found = tail.newest([file], EVERYTHING)
    assert found.offsets == {7: 0}
    file.path.write_text(line(1, "first"))
    assert texts(tail.following([file], found.offsets, EVERYTHING)) == ["first"]


@pytest.mark.parametrize("text", ["", "nonsense", "1:x", "-1:2", "1:2:3", "9" * 9000])
def test_a_foreign_cursor_reads_as_the_beginning(text):
    assert tail.parse_cursor(text) == {}


def test_a_cursor_survives_the_way_through_a_browser():
    found = tail.Tail((), {12: 4033, 3: 0}, is_cut=False)
    assert found.cursor == "3:0,12:4033"
    assert tail.parse_cursor(found.cursor) == {3: 0, 12: 4033}
