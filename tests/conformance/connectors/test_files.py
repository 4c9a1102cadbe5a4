"""Files: where a step may read and write, wildcards, formats and their measures."""

import contextlib
import hashlib
import os

import pytest

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector
from galley.engine.faults import StepError
from galley.engine.nodes.measures import measure


def read(place, into, path, **more):
    return connector("file", place).read({}, KeySpec("r", "read_file", path=path, **more), into())


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/passwd", "", "a\0b"])
def test_paths_outside_are_refused(place, into, path, tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(StepError):
        read(place, into, path)


@pytest.mark.parametrize(
    ("name", "path", "cure"),
    [
        ("r", "gone.csv", "Check `file-key`."),
        ("r", "r", "Check `file-key`, without which the name of the key is the file's."),
        ("r", "r/gone.csv", "with `use-only-file-key` the name of the key is no folder before it"),
    ],
)
def test_a_missing_file_is_told_with_its_place_and_the_setting(place, into, name, path, cure):
    with pytest.raises(StepError) as refused:
        connector("file", place).read({}, KeySpec(name, "read_file", path=path), into())
    assert f"The file {path} was not found (looked for {place.work / path}" in str(refused.value)
    assert cure in str(refused.value)


def test_a_link_does_not_lead_out(place, into, tmp_path):
    (tmp_path / "secret").write_text("x")
    (place.work / "link").symlink_to(tmp_path / "secret")
    (place.work / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/secret"):
        with pytest.raises(StepError, match="outside the folders"):
            read(place, into, path)
    target = KeySpec("w", "write_file", path="folder/new.txt")
    (place.work / "ok.txt").write_text("x")
    batch = read(place, into, "ok.txt")
    with pytest.raises(StepError, match="outside the folders"):
        connector("file", place).write({}, target, batch)
    assert not (tmp_path / "new.txt").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_only_ordinary_files_are_read(place, into, kind):
    if kind == "fifo":
        os.mkfifo(place.work / "thing")
    else:
        (place.work / "thing").mkdir()
    with pytest.raises(StepError, match="not an ordinary file"):
        read(place, into, "thing")


def test_the_run_folder_comes_before_the_source_and_the_areas(place, into, tmp_path):
    from dataclasses import replace

    tree, area = tmp_path / "tree", tmp_path / "area"
    tree.mkdir()
    area.mkdir()
    (area / "a.txt").write_text("area")
    wide = replace(place, tree=tree, roots=(area,))
    assert read(wide, into, "a.txt").path.read_text() == "area"
    (tree / "a.txt").write_text("tree")
    assert read(wide, into, "a.txt").path.read_text() == "tree"
    (place.work / "a.txt").write_text("work")
    assert read(wide, into, "a.txt").path.read_text() == "work"


def test_the_source_tree_is_never_written(place, into, tmp_path):
    from dataclasses import replace

    tree = tmp_path / "tree"
    tree.mkdir()
    (place.work / "a.txt").write_text("x")
    wide = replace(place, tree=tree)
    key = KeySpec("w", "write_file", path=str(tree / "b.txt"))
    with pytest.raises(StepError, match="may write"):
        connector("file", wide).write({}, key, read(wide, into, "a.txt"))


def test_a_wildcard_finds_files_below_its_folder(place, tmp_path):
    for name in ("in/b.csv", "in/a.csv", "in/deep/c.csv", "in/d.txt"):
        (place.work / name).parent.mkdir(parents=True, exist_ok=True)
        (place.work / name).write_text("x")
    (tmp_path / "out.csv").write_text("x")
    (place.work / "in/link.csv").symlink_to(tmp_path / "out.csv")
    made = connector("file", place)
    assert made.keys({"folder": "in"}, "*.csv") == ["a.csv", "b.csv"]
    assert made.keys({"folder": "in"}, "**/*.csv") == ["a.csv", "b.csv", "deep/c.csv"]
    with pytest.raises(StepError, match="pattern below the folder"):
        made.keys({}, "../*")


def test_appending_keeps_what_was_there(place, into):
    (place.work / "log.csv").write_text("1\n")
    (place.work / "more.csv").write_text("2\n")
    key = KeySpec("w", "write_file", path="log.csv", options={"append": True})
    connector("file", place).write({}, key, read(place, into, "more.csv", header=False))
    assert (place.work / "log.csv").read_text() == "1\n2\n"


def test_a_file_that_needs_no_change_keeps_its_bytes(place, into):
    content = b'a , b\r\n007,"x"\r\n'
    (place.work / "a.csv").write_bytes(content)
    key = KeySpec("w", "write_file", path="copy.csv")
    connector("file", place).write({}, key, read(place, into, "a.csv"))
    assert (place.work / "copy.csv").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "path", "options", "expected"),
    [
        (b"a;b\n1;x\n", "a.csv", {"delimiter": ";"}, {"a": "BIGINT", "b": "VARCHAR"}),
        (b"a\tb\n1\tx\n", "a.tsv", {}, {"a": "BIGINT", "b": "VARCHAR"}),
        ("a\né\n".encode("latin-1"), "a.csv", {"encoding": "latin-1"}, {"a": "VARCHAR"}),
        (b"id,code\n1,007\n2,8\n", "a.csv", {}, {"id": "BIGINT", "code": "VARCHAR"}),
        (b"n\n+1\n", "a.csv", {}, {"n": "VARCHAR"}),
        (b'{"at": "2020-01-01T00:00:00Z"}\n', "a.jsonl", {}, {"at": "VARCHAR"}),
        (b"", "a.csv", {}, {}),
        (b"a,b\n", "a.csv", {}, {"a": "VARCHAR", "b": "VARCHAR"}),
    ],
)
def test_types_are_found_without_changing_values(place, into, *, content, path, options, expected):
    (place.work / path).write_bytes(content)
    batch = read(place, into, path, options=options)
    assert measure(place, batch, ["schema"])["schema"] == expected


def test_another_mark_for_no_value(place, into):
    (place.work / "a.csv").write_text('n,t\n1,NA\nNA,"NA"\n,\n')
    batch = read(place, into, "a.csv", options={"null": "NA"})
    assert measure(place, batch, ["schema"])["schema"] == {"n": "BIGINT", "t": "VARCHAR"}
    key = KeySpec("w", "write_file", path="b.csv")
    connector("file", place).write({}, key, batch)
    assert (place.work / "b.csv").read_text() == "n,t\n1,\n,NA\n,\n"


def test_measures_of_a_csv_file(place, into):
    content = b"a,b\n1,\n2,x\n"
    (place.work / "a.csv").write_bytes(content)
    found = measure(
        place,
        read(place, into, "a.csv"),
        ["row_count", "column_count", "size", "md5", "sha", "result"],
    )
    digests = {
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha": hashlib.sha256(content).hexdigest(),
    }
    assert found == {"row_count": 3, "column_count": 2, "size": 11, "result": 1, **digests}


def test_lines_of_a_plain_file_are_counted(place, into):
    (place.work / "a.txt").write_bytes(b"one\ntwo")
    assert measure(place, read(place, into, "a.txt"), ["row_count"]) == {"row_count": 2}
    with pytest.raises(StepError, match="no columns"):
        measure(place, read(place, into, "a.txt"), ["column_count"])


def test_a_dictionary_is_shared_by_bucket_and_bounded(place, into):
    made = connector("dictionary", place)
    config = {"bucket-name": "facts"}
    (place.work / "v.json").write_text('{"a": [1, 2]}')
    made.write(config, KeySpec("k", "value"), read(place, into, "v.json"))
    assert made.read(config, KeySpec("k", "value"), into()).value == {"a": [1, 2]}
    assert made.read(config, KeySpec("own", "value", value=5), into()).value == 5
    assert made.keys(config, "*") == ["k", "own"]
    with pytest.raises(StepError, match="no entry other; it holds k, own"):
        made.read(config, KeySpec("other", "value"), into())
    with pytest.raises(StepError, match="no entry k; it holds nothing"):
        made.read({"bucket-name": "else"}, KeySpec("k", "value"), into())
    with pytest.raises(StepError, match="would be larger than"):
        made.read(config, KeySpec("big", "value", value="x" * 1024 * 1024), into())
    assert made.keys(config, "*") == ["k", "own"]


def test_nothing_reads_nothing_and_takes_everything(place, into):
    made = connector("none", place)
    batch = made.read({}, KeySpec("k", "read_file"), into())
    assert batch.path.read_bytes() == b""
    assert made.write({}, KeySpec("k", "write_file"), batch).format == "binary"
    assert made.run({}, KeySpec("k", "statement", value=3)).value == 3
    assert made.keys({}, "*") == []
    assert made.test({}) is None


def test_a_program_is_a_source_and_an_action(place, into):
    made = connector("shell", place)
    key = KeySpec("p", "program", command=("printf", "a,b\\n1,2\\n"), format="csv")
    batch = made.read({}, key, into())
    assert batch.path.read_text() == "a,b\n1,2\n"
    shown = KeySpec("p", "program", command=("sh", "-c", "echo $GREETING"))
    assert made.run({"environment": {"GREETING": "hello"}}, shown).value == "hello"
    wrote = KeySpec("p", "program", path="made.txt", command=("sh", "-c", "echo x > made.txt"))
    assert made.read({}, wrote, into()).path.read_text() == "x\n"
    with pytest.raises(StepError, match="ended with exit code 3"):
        made.run({}, KeySpec("p", "program", command=("sh", "-c", "exit 3")))
    slow = KeySpec("p", "program", command=("sleep", "60"), options={"timeout-s": 0.05})
    with pytest.raises(StepError, match=r"longer than 0\.05 s"):
        made.run({}, slow)
    with pytest.raises(StepError, match="no program"):
        made.run({}, KeySpec("p", "program"))


def test_what_a_failed_program_printed_is_in_the_log(place, into):
    made = connector("shell", place)
    words = "seq 30000; echo the reason; echo a warning >&2; exit 3"
    key = KeySpec("p", "program", command=("sh", "-c", words))
    for attempt in (lambda: made.run({}, key), lambda: made.read({}, key, into())):
        place.console.lines.clear()
        with pytest.raises(StepError, match="the log has its output"):
            attempt()
        assert ("I", "the reason") in place.console.lines
        assert ("O", "a warning") in place.console.lines
        assert ("I", "1") not in place.console.lines
        assert "bytes that it printed are left out" in place.console.text


def test_a_program_that_is_missing_or_killed_is_told_clearly(place):
    made = connector("shell", place)
    with pytest.raises(StepError, match="There is no program nowhere-at-all"):
        made.run({}, KeySpec("p", "program", command=("nowhere-at-all",)))
    with pytest.raises(StepError, match=r"killed by signal 9 \(SIGKILL\)"):
        made.run({}, KeySpec("p", "program", command=("sh", "-c", "kill -9 $$")))
    assert str(place.segments) not in place.console.text


@pytest.mark.parametrize(("last", "shown"), [("", []), ("\nthe reason\n", ["the reason"])])
def test_the_end_that_is_shown_begins_with_a_whole_line(place, last, shown):
    """Half of a secret would not be masked."""
    words = 'printf hunter2-; head -c 65530 /dev/zero | tr "\\0" x; printf "$1"; exit 3'
    key = KeySpec("p", "program", command=("sh", "-c", words, "sh", last))
    with pytest.raises(StepError, match="exit code 3"):
        connector("shell", place).run({}, key)
    left_out = 8 + 65530 + len(shown)
    note = f"(The first {left_out} bytes that it printed are left out.)"
    assert place.console.lines == [("I", text) for text in (note, *shown)]


@pytest.mark.parametrize("swap", ['ln -s "$1" "$out"', 'mkfifo "$out"', ":"])
@pytest.mark.parametrize("code", [0, 1])
def test_what_stands_where_the_output_was_is_not_read(place, into, tmp_path, swap, code):
    """A program that finds its output's file may put a link or a fifo there."""
    (tmp_path / "secret.key").write_text("TOP SECRET")
    words = f'echo mine; out=$(readlink /proc/$$/fd/1); rm -f "$out"; {swap}; exit {code}'
    command = ("sh", "-c", words, "sh", str(tmp_path / "secret.key"))
    key = KeySpec("p", "program", command=command)
    made = connector("shell", place)
    refused = pytest.raises(StepError, match="ended with" if code else "only print")
    with refused if code else contextlib.nullcontext():
        assert made.run({}, key).value == "mine"
    with refused:
        made.read({}, key, into())
    assert "TOP SECRET" not in place.console.text
    assert ("I", "mine") in place.console.lines


def test_a_program_without_a_first_line_is_run(place):
    """As a shell runs it."""
    (place.work / "plain").write_text("echo plain")
    (place.work / "plain").chmod(0o700)
    key = KeySpec("p", "program", command=("./plain",))
    assert connector("shell", place).run({}, key).value == "plain"


def test_a_program_gets_a_clean_environment(place, monkeypatch):
    monkeypatch.setenv("GALLEY_SECRET_KEY", "s3cret")
    key = KeySpec("p", "program", command=("env",))
    assert "s3cret" not in str(connector("shell", place).run({}, key).value)
