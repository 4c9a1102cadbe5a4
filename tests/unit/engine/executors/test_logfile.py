"""Lines of the log: stamped, masked, cut where they must be."""

import re
import subprocess
import sys

from galley.engine.executors.local.logfile import LEVEL_MARK, ConsoleStream, LogFile
from galley.engine.executors.local.masking import Masker
from galley.engine.nodes import runner


def make(tmp_path, *, secrets=(), limit_bytes=10_000):
    path = tmp_path / "deep" / "x.log"
    return LogFile(str(path), Masker(secrets), limit_bytes), path


def texts(path):
    return [line[28:] for line in path.read_text().splitlines()]


def test_carriage_returns_end_lines_and_controls_are_spelled_out(tmp_path):
    log, path = make(tmp_path)
    output = log.program_output()
    output.feed(b"10%\r20%\r\nnul\x00 bell\x07 tab\t\x1b]0;title\x07colour \x1b[1;31mred\x1b[0m\n")
    output.close()
    assert texts(path) == ["O 10%", "O 20%", "O nul\\x00 bell\\x07 tab\tcolour red"]


def test_a_program_s_line_can_tell_its_level(tmp_path):
    log, path = make(tmp_path, limit_bytes=1_000_000)
    output = log.program_output()
    output.feed(
        b"plain\n\x02W careful\n\x02W again\n\x02X odd\nmid \x02E no\n\x02E " + b"x" * 20_000
    )
    output.feed(b"rest\nplain\n\x02D last")
    output.close()
    told = texts(path)
    assert told[:5] == ["O plain", "W careful", "W again", "O \\x02X odd", "O mid \\x02E no"]
    assert [text[0] for text in told[5:]] == ["E", "E", "E", "O", "D"]
    assert told[7:] == ["E rest", "O plain", "D last"]


def test_the_lines_of_a_script_s_logger_have_their_levels(tmp_path):
    assert runner.LEVEL_MARK.encode() == LEVEL_MARK
    log, path = make(tmp_path)
    script = (
        "from galley.engine.nodes import runner\n"
        "log = runner.logger()\n"
        "log.debug('d'); log.info('i %s', 1); print('p')\n"
        "log.warning('w\\nw2'); log.critical('c')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('e')\n"
    )
    output = log.program_output()
    output.feed(subprocess.run([sys.executable, "-c", script], stdout=-1, check=True).stdout)
    output.close()
    told = texts(path)
    assert told[:7] == ["D d", "I i 1", "O p", "W w", "W w2", "E c", "E e"]
    assert told[-1] == "E ZeroDivisionError: division by zero"
    assert {text[0] for text in told[6:]} == {"E"}


def test_long_lines_are_split(tmp_path):
    log, path = make(tmp_path, limit_bytes=1_000_000)
    output = log.program_output()
    output.feed(b"x" * 40_000 + b"\n")
    output.close()
    assert sum(len(text) - 2 for text in texts(path)) == 40_000
    assert max(len(text) for text in texts(path)) <= 16 * 1024 + 2


def test_the_limit_counts_what_is_there_already(tmp_path):
    log, path = make(tmp_path, limit_bytes=1000)
    for number in range(100):
        log.write("I", f"line {number}")
    assert log.full
    size = path.stat().st_size
    assert size < 1000 + 120
    again = LogFile(str(path), Masker(()), 1000)
    again.write("I", "more")
    assert path.stat().st_size == size
    assert path.read_text().count("has reached its limit") == 1


def test_whole_lines_only_at_the_limit(tmp_path):
    log, path = make(tmp_path, limit_bytes=500)
    log.write("I", "\n".join(f"number {n}" for n in range(100)))
    *lines, last = texts(path)
    assert all(re.fullmatch(r"I number \d+", line) for line in lines)
    assert last.startswith("W The log has reached its limit")


def test_printed_text_is_masked_and_split(tmp_path):
    log, path = make(tmp_path, secrets=["hush-hush"])
    stream = ConsoleStream(log)
    stream.write("a\nb hush")
    stream.write("-hush\nc")
    stream.finish()
    assert texts(path) == ["O a", "O b [masked]", "O c"]


def test_empty_text_is_an_empty_line(tmp_path):
    log, path = make(tmp_path)
    log.write("I", "")
    log.write("D", "odd \udcff bytes")
    first, second = path.read_bytes().splitlines()
    assert first.endswith(b"Z I ")
    assert b"D odd \xff bytes" in second
