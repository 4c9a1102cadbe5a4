"""A step that runs users' programs: in a cached interpreter of their own, or in an image."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from galley.core.recipes.spec import ScriptSpec
from galley.core.runs.plan import Environment
from galley.engine.connectors import paths
from galley.engine.connectors.shell import clean_environment
from galley.engine.containers import find_engine, missing_engine
from galley.engine.environments import EnvironmentStore, Interpreter, default_folder
from galley.engine.faults import StepError, ended
from galley.engine.network import NO_NETWORK_HINT, network_of
from galley.engine.nodes import flow, interface, runner, workshop
from galley.engine.nodes.base import MAX_VALUE_BYTES, Step
from galley.engine.nodes.conditions import choose
from galley.engine.nodes.image import run_image
from galley.engine.nodes.workshop import Workshop

_ESCAPED = 6  # bytes of an escaped character in the runner's file, at most
_PYTHON = frozenset({".py", ".ipynb"})


def run(step: Step) -> None:
    """Sources, then the programs, then checks, then sinks."""
    flow.read_sources(step)
    step.reload()
    place = workshop.open_workshop(step)
    step.artifact_base = place.folder
    with step.timed("notebook"):
        workshop.put_inputs(step, place)
        _run_programs(step, place)
        workshop.assign(step, place, step.spec.assign)
        step.reload()
        step.check(step.spec.checks, ("notebook", ""))
        given = {**flow.mapped(step), **workshop.take_outputs(step, place)}
    flow.write_sinks(step, given)
    choose(step)


def environment_of(step: Step) -> Environment:
    """What the step's own files ask for, else what the plan says."""
    own = step.spec.environment
    return step.task.environment if own == Environment() else own


def _run_programs(step: Step, place: Workshop) -> None:
    """In the image where an engine is there, else natively where that can be."""
    wanted = environment_of(step)
    if wanted.image is None:
        _run_natively(step, place, wanted)
        return
    engine = find_engine()
    if engine is not None:
        run_image(step, place, engine, wanted)
    elif step.spec.scripts:
        step.console.warning(
            f"No container engine answers here: the scripts run without the image {wanted.image},"
            " in a Python environment with their requirements"
        )
        _run_natively(step, place, wanted)
    else:
        raise StepError(missing_engine(wanted.image))


def _run_natively(step: Step, place: Workshop, wanted: Environment) -> None:
    if wanted.apt_packages:
        step.console.warning(
            f"System packages are not installed for steps: {', '.join(wanted.apt_packages)}."
            " An administrator installs them, or the step uses an image"
        )
    with _interpreter(step, wanted) as interpreter:
        for script in step.spec.scripts:
            with step.timed(f"script/{script.name}"):
                _run_script(step, place, script, interpreter)
        if step.spec.program:
            _run_program(step, place, step.spec.program, interpreter, {})
    interface.read_progress(step, place.share, place="")


@contextlib.contextmanager
def _interpreter(step: Step, wanted: Environment) -> Iterator[Interpreter | None]:
    """The environment of the requirements; none is built where no Python is to run."""
    paths = [script.path for script in step.spec.scripts]
    runs_python = any(Path(path).suffix in _PYTHON for path in paths)
    if not runs_python and not wanted.requirements:
        yield None
        return
    folder = step.task.environments
    store = EnvironmentStore(Path(folder) if folder else default_folder())
    with store.using(wanted.requirements, step.console) as found:
        yield found


def _run_script(
    step: Step, place: Workshop, script: ScriptSpec, interpreter: Interpreter | None
) -> None:
    path = place.script(script.path)
    step.console.info(f"Running {script.path}")
    if interpreter is not None and path.suffix in _PYTHON:
        _run_python(step, place, script, path, interpreter)
    else:
        path.chmod(path.stat().st_mode | 0o700)
        if script.exports:
            raise StepError(
                f"The script {script.path} is no Python, so it cannot export variables; let it"
                " write files, and name them in `assign`."
            )
        texts = {name: _text(value) for name, value in script.parameters.items()}
        _run_program(step, place, (str(path),), interpreter, {**texts, **script.environment})
    workshop.assign(step, place, script.assign)


def _run_python(
    step: Step, place: Workshop, script: ScriptSpec, path: Path, interpreter: Interpreter
) -> None:
    """One Python script by the runner; what it exports becomes variables."""
    result = place.folder / ".galley" / f"{script.name}.json"
    result.parent.mkdir(exist_ok=True)
    order = {
        "path": str(path),
        "parameters": script.parameters,
        "exports": script.exports,
        "result": str(result),
        "secrets": step.task.secrets,
        "facts": workshop.facts(step, place, step.out),
    }
    program = Path(runner.__file__)
    argv = (str(interpreter.python), "-u", "-P", str(program))
    code = _start(
        step,
        place,
        argv,
        interpreter,
        script.environment,
        stdin=msgspec.json.encode(order, enc_hook=str),
        readable=(program,),
    )
    step.exit_code = code
    if not result.is_file() or result.is_symlink():
        raise StepError(f"The script {script.path} {ended(code)}; the log has its output.")
    limit = _ESCAPED * MAX_VALUE_BYTES * (len(script.exports) + 1)
    with paths.opened_in((place.folder.resolve(),), result) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise StepError(
            f"The exports of {script.path} are larger than {MAX_VALUE_BYTES} bytes each; put what"
            " is large into a file."
        )
    _take(step, script, json.loads(content))


def _take(step: Step, script: ScriptSpec, result: dict[str, Any]) -> None:
    if not result["ok"]:
        raise StepError(f"The script {script.path} failed: {result['error']}", retryable=True)
    for name in result["missing"]:
        step.console.warning(f"The script {script.path} made no variable {name}; not exported")
    for name, value in result["exports"].items():
        step.export(name, value)


def _run_program(
    step: Step,
    place: Workshop,
    command: tuple[str, ...],
    interpreter: Interpreter | None,
    environment: dict[str, str],
) -> None:
    code = _start(step, place, command, interpreter, environment)
    step.exit_code = code
    if code:
        raise StepError(
            f"The program {Path(command[0]).name} {ended(code)}; the log has its output.",
            retryable=True,
        )


def _start(
    step: Step,
    place: Workshop,
    argv: tuple[str, ...],
    interpreter: Interpreter | None,
    environment: dict[str, str],
    *,
    stdin: bytes | None = None,
    readable: tuple[Path, ...] = (),
) -> int:
    task, spec = step.task, step.spec
    known = {
        **clean_environment(place.folder),
        "GALLEY_WORK": task.work,
        "GALLEY_OUT": str(step.out),
        "GALLEY_RUN": task.run_uid,
        "GALLEY_STEP": task.step_key,
        "GALLEY_ATTEMPT": task.key,
        **interface.variables(str(place.folder), spec.share, spec.config_file),
    }
    seen = [*readable, *step.place.roots]
    if interpreter is not None:
        seen.append(interpreter.folder)
        known["PATH"] = f"{interpreter.folder / 'bin'}:{known['PATH']}"
        known["VIRTUAL_ENV"] = str(interpreter.folder)
    try:
        return step.console.run_program(
            argv,
            cwd=place.folder,
            env={**known, **environment},
            stdin=stdin,
            network=network_of(spec.network),
            readable=seen,
            writable=[place.folder, step.out, Path(task.work)],
            hint=NO_NETWORK_HINT,
        )
    except OSError as error:
        raise StepError(
            f"The program {argv[0]} could not be started: {error.strerror or error}."
        ) from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
