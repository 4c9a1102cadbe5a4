"""Steps for the tests of executors: one does what its `kind` says, with `body` as arguments."""

import os
import signal
import sys
import time
from pathlib import Path

from galley.core.errors import Invalid, Unavailable
from galley.core.recipes.spec import KeySpec
from galley.core.runs.task import CheckResult, Outcome
from galley.engine.connectors import connector
from galley.engine.connectors.base import Place


def run_step(task, console):
    return globals()[f"do_{task.kind}"](task, console, **task.body)


def program(task, console, argv, **options):
    env = options.pop("env", {})
    code = console.run_program(argv, cwd=Path(task.work), env=env, **options)
    return Outcome(
        state="succeeded" if code == 0 else "failed",
        reason="" if code == 0 else f"the program ended with {code}",
        exit_code=code,
    )


def do_shell(task, console, command):
    place = Place(folder=Path(task.folder), work=Path(task.work), console=console)
    key = KeySpec("k", "program", command=tuple(command))
    value = connector("shell", place).run({}, key).value
    left = len(list(place.segments.iterdir()))
    return Outcome(state="succeeded", exports={"value": value, "left": left})


def do_noop(task, console):
    console.info(f"step {task.step_key}")
    return Outcome(state="succeeded", exports={"pid": os.getpid()}, timings={"notebook": 0.5})


def do_talk(task, console, text, level="info"):
    getattr(console, level)(text)
    print("printed", flush=True)
    print("without an end", end="")
    return Outcome(state="succeeded")


def do_show(task, console, names):
    values = {name: os.environ.get(name) for name in names}
    return Outcome(state="succeeded", exports=values)


def do_reveal(task, console):
    secret = task.secrets["vault://one"]
    console.info(f"the secret is {secret}")
    check = CheckResult(name="c", status="failed", action="log", text=f"got {secret}")
    return Outcome(
        state="failed", reason=f"refused {secret}", exports={"x": [secret, 7]}, checks=(check,)
    )


def do_spoil(task, console):
    check = CheckResult(name="c\0", status="failed", action="log", text="got \udcff")
    return Outcome(
        state="failed",
        reason="no file a\0b\ud800c",
        exports={"x\0": ["\\u0000", "\0"]},
        checks=(check,),
    )


def do_raise(task, console, kind):
    if kind == "invalid":
        raise Invalid("The key `x` is missing in f.json.")
    if kind == "unavailable":
        raise Unavailable("The database rests.")
    if kind == "exit":
        sys.exit(3)
    if kind == "memory":
        raise MemoryError
    if kind == "nothing":
        return
    raise KeyError(kind)


def do_hoard(task, console, size_mb):
    data = bytearray(size_mb * 1024 * 1024)
    return Outcome(state="succeeded", exports={"size": len(data)})


def do_spin(task, console):
    while True:
        pass


def do_die(task, console, number):
    os.kill(os.getpid(), number)
    time.sleep(600)


def do_exit(task, console, code):
    os._exit(code)


def do_wait(task, console, at, until):
    """Say that we are there, then wait for a file."""
    Path(at).write_text(str(os.getpid()))
    while not Path(until).exists():
        time.sleep(0.01)
    return Outcome(state="succeeded", exports={"pid": os.getpid()})


def do_deaf(task, console, at):
    """Cannot be interrupted: as if native code never came back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    console.info("deaf")
    Path(at).write_text(str(os.getpid()))
    time.sleep(600)
    return Outcome(state="succeeded")


def do_program(task, console, **options):
    return program(task, console, **options)


def do_python(task, console, code, **options):
    return program(
        task, console, [sys.executable, "-c", code], readable=[Path(sys.prefix)], **options
    )


def do_timed(task, console, argv, timeout_s):
    try:
        console.run_program(argv, cwd=Path(task.work), env={}, timeout_s=timeout_s)
    except TimeoutError as error:
        return Outcome(state="failed", reason=f"TimeoutError: {error}")
    return Outcome(state="succeeded")


def do_missing(task, console, argv, cwd=None):
    try:
        console.run_program(argv, cwd=Path(cwd or task.work), env={})
    except OSError as error:
        return Outcome(state="failed", reason=str(error))
    return Outcome(state="succeeded")


def do_placed(task, console, argv, cwd):
    code = console.run_program(argv, cwd=Path(cwd), env={})
    return Outcome(state="succeeded", exit_code=code)


def do_stdin(task, console, size):
    code = console.run_program(["wc", "-c"], cwd=Path(task.work), env={}, stdin=b"x" * size)
    return Outcome(state="succeeded", exit_code=code)


def do_cleanup(task, console, argv, at):
    console.at_cancel(argv)
    console.run_program(
        ["sh", "-c", f"echo here > {at}; exec sleep 600"], cwd=Path(task.work), env={}
    )
    return Outcome(state="succeeded")


def do_query(task, console):
    import duckdb

    with duckdb.connect(":memory:") as connection:
        (total,) = connection.execute("select sum(i) from range(1000) t(i)").fetchone()
    return Outcome(state="succeeded", exports={"total": int(total)})


def do_fill(task, console, place, files, until, *, deaf=False):
    """Write files of 1 MB, then wait for another."""
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    folder = Path(task.folder if place == "folder" else task.work)
    for number in range(files):
        Path(folder, f"{task.step_key}-{number}").write_bytes(os.urandom(1 << 20))
    console.info("filled")
    while not Path(until).exists():
        time.sleep(0.01)
    return Outcome(state="succeeded")
