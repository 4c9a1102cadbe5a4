import json
from pathlib import Path

import pytest

from galley.core.recipes.spec import (
    CheckSpec,
    EndpointSpec,
    KeySpec,
    MappingSpec,
    ScriptSpec,
    StepSpec,
)
from galley.core.runs.plan import Environment, Limits
from galley.engine.nodes import run_spec

DATABASE = {"database": "x.db"}
ORDERS = KeySpec("o", "read_file", path="orders.csv")


def scripts(*given, **more):
    return StepSpec("script", share="share", scripts=given, **more)


def test_a_script_gets_parameters_and_gives_exports(task, console, script, tree):
    path = script(
        "load.py",
        "import datetime, decimal, sys\n"
        "total = sum(numbers) + len(HELPERS.variables)\n"
        "when = datetime.date(2026, 11, 24)\n"
        "price = decimal.Decimal('1.10')\n"
        "nothing = float('nan')\n"
        "pairs = {'a': (1, 2), 3: {4}}\n"
        "LOGGER.info('hello %s', name)\n"
        "assert __name__ == '__main__' and sys.argv[0] == __file__\n"
        "open('share/report.txt', 'w').write('done\\n')\n"
        "open(HELPERS.output('r.html'), 'w').write('<p>')\n"
        "open(HELPERS.shared('for-later'), 'w').write('x')\n",
    )
    names = ("total", "when", "price", "nothing", "pairs", "absent")
    one = ScriptSpec(
        "one", path, {"numbers": [1, 2], "name": "cook"}, exports=names,
        assign={"report": "share/report.txt"},
    )  # fmt: skip
    check = CheckSpec("total", "stop", variable="total", compare="eq", metric=4)
    outcome = run_spec(task("script"), scripts(one, checks=(check,)), console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports == {
        "total": 4,
        "when": "2026-11-24",
        "price": "1.10",
        "nothing": None,
        "pairs": {"a": [1, 2], "3": [4]},
        "report": "done\n",
    }
    assert "O \x02I hello cook" in console.text
    assert "made no variable absent" in console.text
    assert [s.name for s in outcome.staged] == ["r.html"]
    assert not (tree / "step1/share/report.txt").exists()
    assert outcome.exit_code == 0


def test_scripts_run_in_order_and_share_their_folder(task, console, script):
    first = script("one.py", "open('share/n', 'w').write('5')\n")
    second = script("two.py", "import helper\nn = helper.double(int(open('share/n').read()))\n")
    script("helper.py", "def double(n):\n    return n * 2\n")
    spec = scripts(ScriptSpec("1", first), ScriptSpec("2", second, exports=("n",)))
    outcome = run_spec(task("script"), spec, console)
    assert outcome.exports == {"n": 10}, outcome.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f():\n    raise ValueError('bad thing')\nf()\n", "failed: ValueError: bad thing"),
        ("x = (\n", "failed: SyntaxError"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import sys; sys.exit(3)\n", "it ended with exit code 3"),
        ("import sys; sys.exit('no data')\n", "it ended with no data"),
        ("import os; os._exit(4)\n", "ended with exit code 4"),
        ("import os; os.kill(os.getpid(), 9)\n", "was killed by signal 9 (SIGKILL)"),
    ],
)
def test_a_failing_script_says_why(task, console, script, text, reason):
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", script("bad.py", text))), console)
    assert outcome.state == "failed"
    assert "share/bad.py" in outcome.reason
    assert reason in outcome.reason


def test_a_traceback_shows_only_the_users_lines(task, console, script):
    path = script("bad.py", "def f():\n    raise ValueError('bad')\nf()\n")
    run_spec(task("script"), scripts(ScriptSpec("s", path)), console)
    assert "O Traceback (most recent call last):" in console.text
    assert "runner.py" not in console.text


def test_leaving_by_zero_is_success(task, console, script):
    path = script("ok.py", "n = 1\nimport sys\nsys.exit(0)\n")
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path)), console)
    assert outcome.state == "succeeded", outcome.reason


def test_what_cannot_be_exported_is_named(task, console, script):
    path = script("odd.py", "thing = object()\n")
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path, exports=("thing",))), console)
    assert "the variable thing is a object, which cannot be exported" in outcome.reason


def test_a_reference_to_a_secret_in_a_script_is_an_error(task, console, script):
    path = script("leak.py", "password = '#{vault://db/password}'\n")
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path)), console)
    assert "holds a reference to a secret" in outcome.reason


def test_secrets_reach_a_script_but_no_disk_and_no_command(task, console, script, tmp_path):
    path = script(
        "use.py",
        "import pathlib\n"
        "ok = password == 'pass' + 'word1' and vault_resolve('x') == 'x'\n"
        "files = [p for p in pathlib.Path(HELPERS.out).parent.rglob('*') if p.is_file()]\n"
        "seen = len(files)\n"
        "leaks = [str(p) for p in files if password.encode() in p.read_bytes()]\n",
    )
    made = task("script", secrets={"vault://db/password": "password1"})
    one = ScriptSpec("s", path, {"password": "password1"}, exports=("ok", "seen", "leaks"))
    outcome = run_spec(made, scripts(one), console)
    assert outcome.exports == {"ok": True, "seen": 1, "leaks": []}, outcome.reason
    told = [f.read_bytes() for f in Path(made.folder).rglob("*") if f.is_file()]
    assert not any(b"password1" in content for content in told)
    assert "password1" not in str([p["argv"] for p in console.programs])
    assert "password1" not in str([p["env"] for p in console.programs])


def test_a_script_has_a_clean_environment(task, console, script, monkeypatch):
    monkeypatch.setenv("GALLEY_SECRET_KEY", "s3cret")
    path = script("env.py", "import os\nnames = sorted(os.environ)\nown = os.environ['OWN']\n")
    one = ScriptSpec("s", path, environment={"OWN": "yes"}, exports=("names", "own"))
    outcome = run_spec(task("script"), scripts(one), console)
    assert outcome.exports["own"] == "yes"
    assert "GALLEY_SECRET_KEY" not in outcome.exports["names"]
    assert {"GALLEY_WORK", "GALLEY_OUT", "GALLEY_ATTEMPT"} <= set(outcome.exports["names"])


def test_what_a_program_tells_is_not_read_from_another_runs_folder(task, console, script, tmp_path):
    """A program may put a link to any place where its folder was."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "s.json").write_text('{"ok": true, "missing": [], "exports": {"x": "theirs"}}')
    (other / "progress.json").write_text('{"x": "theirs"}')
    path = script(
        "swap.py",
        "import os, shutil\n"
        "shutil.rmtree('.galley')\n"
        f"os.symlink({str(other)!r}, '.galley')\n"
        "os._exit(0)\n",
    )
    one = scripts(ScriptSpec("s", path, exports=("x",)))
    swap = ("sh", "-c", f"rm -r share; ln -s {other} share")
    for spec in (one, scripts(program=swap)):
        outcome = run_spec(task("script"), spec, console)
        assert outcome.exports == {}
        assert "lies outside the folders" in outcome.reason


def test_a_script_that_fails_behind_the_wall_is_told_of_the_network(task, console, script):
    path = script("quiet.py", "")
    run_spec(task("script"), scripts(ScriptSpec("s", path)), console)
    *built, ran = console.programs
    assert "GALLEY_STEP_NETWORK=declared" in ran["hint"]
    assert not any(program["hint"] for program in built)


def test_the_servers_packages_are_not_the_scripts(task, console, script):
    path = script(
        "imports.py", "import importlib.util as u\nfound = u.find_spec('galley') is not None\n"
    )
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path, exports=("found",))), console)
    assert outcome.exports == {"found": False}, outcome.reason


def test_a_notebook_runs_its_code_cells(task, console, script):
    cells = [
        {"cell_type": "markdown", "source": ["# title"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "n = 20\n"]},
        {"cell_type": "code", "source": "n += 1"},
    ]
    path = script("book.ipynb", json.dumps({"cells": cells}))
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path, exports=("n",))), console)
    assert outcome.exports == {"n": 21}, outcome.reason


def test_another_program_is_executed(task, console, script):
    path = script("go.sh", '#!/bin/sh\necho "table $table $OWN"\necho made > share/made.txt\n')
    one = ScriptSpec(
        "s", path, {"table": "orders"}, {"OWN": "x"}, assign={"made": "share/made.txt"}
    )
    outcome = run_spec(task("script"), scripts(one), console)
    assert outcome.exports == {"made": "made\n"}, outcome.reason
    assert "O table orders x" in console.text
    failing = script("bad.sh", "#!/bin/sh\nexit 5\n")
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", failing)), console)
    assert "bad.sh ended with exit code 5" in outcome.reason
    exporting = ScriptSpec("s", path, exports=("x",))
    assert "cannot export" in run_spec(task("script"), scripts(exporting), console).reason


def test_a_general_program_runs(task, console):
    spec = StepSpec("script", program=("sh", "-c", "echo $GALLEY_STEP; exit 0"))
    outcome = run_spec(task("script"), spec, console)
    assert (outcome.state, outcome.exit_code) == ("succeeded", 0)
    assert "O step1" in console.text
    missing = StepSpec("script", program=("no-such-program",))
    assert "could not be started" in run_spec(task("script"), missing, console).reason


@pytest.mark.parametrize("path", ["share/nope.py", "../../secret.py", "/etc/passwd"])
def test_a_script_that_is_not_there_is_named(task, console, path):
    outcome = run_spec(task("script"), scripts(ScriptSpec("s", path)), console)
    assert outcome.state == "failed"
    assert path in outcome.reason


def test_files_go_in_and_come_out(task, console, script, work):
    (work / "orders.csv").write_text("id,n\n1,2\n2,3\n")
    path = script(
        "double.py",
        "rows = open('share/in.csv').read().split()\n"
        "with open('share/out.csv', 'w') as file:\n"
        "    file.write('id\\n' + '\\n'.join(r.split(',')[0] * 2 for r in rows[1:]) + '\\n')\n",
    )
    spec = scripts(
        ScriptSpec("s", path),
        sources=(EndpointSpec("source", "file", {}, (ORDERS,)),),
        sinks=(EndpointSpec("sink", "duckdb", DATABASE, (
            KeySpec("t", "insert", table="t", options={"write-mode": "create"},
                    exports={"row_count": "rows"}),
            KeySpec("u", "insert", table="u", options={"write-mode": "create"}),
        )),),
        inputs=(("source.o", "in.csv"),),
        outputs=(("out.csv", "sink.t"),),
        mappings=(MappingSpec("source", "o", "sink", "u"),),
    )  # fmt: skip
    outcome = run_spec(task("script"), spec, console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports == {"rows": 2}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"inputs": (("source.nope", "in.csv"),)}, "The input source.nope is no key"),
        ({"outputs": (("out.csv", "sink.t"),)}, "The output out.csv is not there"),
        ({"assign": {"v": "share/nope.txt"}}, "The file share/nope.txt for the variable v"),
        ({"assign": {"v": "../../../log"}}, "leads out of the step's folder"),
    ],
)
def test_what_does_not_come_or_go_is_named(task, console, script, more, words):
    spec = scripts(ScriptSpec("s", script("a.py", "pass\n")), **more)
    assert words in run_spec(task("script"), spec, console).reason


def fake_engine(folder, monkeypatch, body="exit 0", name="podman"):
    """A container engine that records how it is called."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = version ]; then exit 0; fi\n'
        f'printf "%s\\n" "$@" > {folder}/argv; env > {folder}/client\n'
        f'for a in "$@"; do case $a in */environment) cat $a > {folder}/env;; esac; done\n'
        f"{body}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def private_files_left(engine):
    """What is left of the files in memory that the engine's command line named."""
    words = (engine / "argv").read_text().splitlines()
    named = [Path(word) for word in words if word.startswith("/dev/shm/")]
    assert named
    return [path for path in named if path.exists()]


IMAGE = Environment(image="registry.example/space/tool:1")


def test_an_image_runs_with_its_folder_mounted(task, console, script, tmp_path, monkeypatch):
    progress = (
        '{"container-return-status": "completed_success", "start-time": "x", "rows": 5,'
        ' "test-data": {"t1": {"test-result": "TestPassed", "test-action": "stop-on-error",'
        ' "test-logic": "is 5", "test-value": 5}}}'
    )
    body = f"cp share/config.json {tmp_path}; echo '{progress}' > share/progress.json"
    engine = fake_engine(tmp_path / "engine", monkeypatch, body)
    script("a.py", "pass\n")
    made = task("script", environment=IMAGE, limits=Limits(memory_mb=512, processes=50))
    spec = StepSpec(
        "script", share="share", interface=True, pull="always", network=False,
        program=("run", "me"), files={"share/config.json": "{}"},
    )  # fmt: skip
    outcome = run_spec(made, spec, console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports == {"rows": 5}
    assert [(c.name, c.status, c.value) for c in outcome.checks] == [("t1", "passed", 5)]
    argv = (engine / "argv").read_text().splitlines()
    name = f"galley-7-{made.attempt_id}"
    assert argv[:5] == ["run", "--rm", "--name", name, "--pull=always"]
    assert argv[-3:] == ["registry.example/space/tool:1", "run", "me"]
    folder = f"{made.folder}/step"
    for words in (
        ["--volume", f"{folder}:/galley/step:rw"],
        ["--volume", f"{made.work}:/galley/work:rw"],
        ["--workdir", "/galley/step"],
        ["--memory", "512m"],
        ["--pids-limit", "50"],
        ["--network", "none"],
    ):
        at = argv.index(words[1])
        assert argv[at - 1 : at + 1] == words
    told = dict(
        line.split("=", 1) for line in (engine / "env").read_text().splitlines() if "=" in line
    )
    assert told["INSIDE_CONTAINER_FILE_MOUNT"] == "/galley/step"
    assert told["INSIDE_CONTAINER_FILE_DIRECTORY"] == "share"
    assert told["CONTAINER_INPUT_CONFIG_FILE_PATH"] == "/galley/step/share"
    assert told["CONTAINER_INPUT_CONFIG_FILE_NAME"] == "config.json"
    assert told["CONTAINER_OUTPUT_PROGRESS_FILE"] == "progress.json"
    assert (tmp_path / "config.json").read_text() == "{}"
    assert console.at_cancel_argv == [[str(engine / "podman"), "rm", "--force", name]]
    assert not console.programs[-1]["sandboxed"]


def test_a_recipe_s_variables_reach_the_image_but_never_the_engine_s_client(
    task, console, script, tmp_path, monkeypatch
):
    engine = fake_engine(tmp_path / "engine", monkeypatch)
    hostile = {"LD_PRELOAD": "/x.so", "DOCKER_HOST": "tcp://evil", "PATH": "/evil", "PLAIN": "a b"}
    spec = scripts(ScriptSpec("s", script("a.py", "pass\n"), environment=hostile))
    outcome = run_spec(task("script", environment=IMAGE), spec, console)
    assert outcome.state == "succeeded", outcome.reason
    inside = (engine / "env").read_text().splitlines()
    assert {f"{name}={value}" for name, value in hostile.items()} <= set(inside)
    client = (engine / "client").read_text()
    assert "evil" not in client
    assert "LD_PRELOAD" not in client
    told = " ".join((engine / "argv").read_text().split())
    assert "a b" not in told
    assert private_files_left(engine) == []


def test_a_variable_of_several_lines_cannot_be_given_to_an_image(
    task, console, script, tmp_path, monkeypatch
):
    fake_engine(tmp_path / "engine", monkeypatch)
    spec = scripts(ScriptSpec("s", script("a.py", "pass\n"), environment={"KEY": "a\nB=c"}))
    outcome = run_spec(task("script", environment=IMAGE), spec, console)
    assert "The environment variable KEY has several lines" in outcome.reason


def test_a_stop_check_of_an_image_stops_the_step(task, console, tmp_path, monkeypatch):
    progress = '{"test-data": {"t": {"test-result": "TestFailed", "test-action": "stop-on-error"}}}'
    fake_engine(
        tmp_path / "engine", monkeypatch, f"mkdir -p share; echo '{progress}' > share/progress.json"
    )
    made = task("script", environment=IMAGE)
    outcome = run_spec(made, StepSpec("script", share="share", interface=True), console)
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "The check t of step step1" in outcome.reason


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "ended with exit code 1"), (125, "did not run"), (127, "not found in the image"),
     (137, "memory limit of 64 MB")],
)  # fmt: skip
def test_how_an_image_ends_is_told(task, console, tmp_path, monkeypatch, *, code, words):
    fake_engine(tmp_path / "engine", monkeypatch, f"exit {code}")
    made = task("script", environment=IMAGE, limits=Limits(memory_mb=64))
    outcome = run_spec(made, StepSpec("script"), console)
    assert (outcome.state, outcome.exit_code) == ("failed", code)
    assert words in outcome.reason


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_registry_credentials_stay_out_of_commands_and_disks(
    task, console, tmp_path, monkeypatch, name
):
    show = f"cat $a $a/config.json 2>/dev/null > {tmp_path}/copy"
    body = f'for a in "$@"; do case $a in */environment) ;; /dev/shm/*) {show};; esac; done'
    engine = fake_engine(tmp_path / "engine", monkeypatch, body, name)
    login = Environment(
        image="tool", registry="registry.example", registry_user="cook", registry_password="pan"
    )
    made = task("script", environment=login)
    assert run_spec(made, StepSpec("script"), console).state == "succeeded"
    argv = (engine / "argv").read_text()
    assert "pan" not in argv.replace("--pan", "")
    copied = json.loads((tmp_path / "copy").read_text())
    assert copied == {"auths": {"registry.example": {"auth": "Y29vazpwYW4="}}}
    assert private_files_left(engine) == []


def test_without_an_engine_scripts_run_natively(task, console, script, monkeypatch):
    monkeypatch.setenv("GALLEY_CONTAINER_ENGINE", "none-here")
    path = script("a.py", "import os\nmount = os.environ['INSIDE_CONTAINER_FILE_MOUNT']\n")
    one = ScriptSpec("s", path, exports=("mount",))
    made = task("script", environment=IMAGE)
    outcome = run_spec(made, scripts(one, interface=True), console)
    assert outcome.exports == {"mount": f"{made.folder}/step"}, outcome.reason
    assert "run without the image registry.example/space/tool:1" in console.text


def test_without_an_engine_an_image_alone_cannot_run(task, console, monkeypatch):
    monkeypatch.setenv("GALLEY_CONTAINER_ENGINE", "none-here")
    outcome = run_spec(task("script", environment=IMAGE), StepSpec("script"), console)
    assert outcome.state == "failed"
    assert "Install podman (or docker)" in outcome.reason
    assert "registry.example/space/tool:1" in outcome.reason


@pytest.mark.parametrize("image", ["-v /:/host", "a b", ""])
def test_an_image_is_a_name(task, console, tmp_path, monkeypatch, image):
    fake_engine(tmp_path / "engine", monkeypatch)
    outcome = run_spec(
        task("script", environment=Environment(image=image)), StepSpec("script"), console
    )
    assert "is not the name of a container image" in outcome.reason


def test_an_unknown_pull_policy_is_refused(task, console, tmp_path, monkeypatch):
    fake_engine(tmp_path / "engine", monkeypatch)
    outcome = run_spec(
        task("script", environment=IMAGE), StepSpec("script", pull="sometimes"), console
    )
    assert "pull policy sometimes is not one of missing, always, never" in outcome.reason


def test_each_export_is_held_to_the_limit(task, console, script):
    path = script("big.py", "big = 'x' * 1_500_000\nsmall = 1\n")
    one = ScriptSpec("one", path, {}, exports=("small", "big"))
    outcome = run_spec(task("script"), scripts(one), console)
    assert outcome.state == "failed"
    assert outcome.reason.startswith("The value of big is larger than 1048576 bytes")


def test_half_a_character_is_told_with_its_variable(task, console, script):
    path = script("half.py", "broken = 'a\\ud800'\n")
    one = ScriptSpec("one", path, {}, exports=("broken",))
    outcome = run_spec(task("script"), scripts(one), console)
    assert outcome.state == "failed"
    assert "The variable broken holds half of a character" in outcome.reason
    assert "Traceback" not in console.text
