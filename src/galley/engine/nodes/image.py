"""Runs a script step's programs in a container image."""

import re
from pathlib import Path

from galley.core.runs.plan import Environment
from galley.engine.containers import (
    MOUNT,
    ContainerEngine,
    ContainerRun,
    client_environment,
    environment_file,
    image_name,
    registry_credentials,
    remove_argv,
    run_argv,
)
from galley.engine.faults import StepError, ended
from galley.engine.network import NO_NETWORK_HINT, network_of
from galley.engine.nodes import interface
from galley.engine.nodes.base import Step
from galley.engine.nodes.workshop import Workshop

_WORK, _OUT = "/galley/work", "/galley/out"
_KILLED = 137
_NOT_RUN = {
    125: "the engine could not run it; check the image's name and the registry's credentials",
    126: "its command cannot be executed",
    127: "its command was not found in the image",
}


def run_image(step: Step, place: Workshop, engine: ContainerEngine, wanted: Environment) -> None:
    """Run the image with the step's folder mounted, and take over what it tells.

    Raises:
        StepError: the image could not be run, or ended with another exit code than 0.
    """
    image = image_name(wanted)
    name = f"galley-{step.task.run_id}-{step.task.attempt_id}"
    step.console.info(f"Running the image {image} with {engine.name}")
    step.console.at_cancel(remove_argv(engine, name))
    with (
        registry_credentials(wanted) as credentials,
        environment_file(_variables(step)) as variables,
    ):
        run = ContainerRun(
            name=name,
            image=image,
            folder=place.folder,
            mounts=((Path(step.task.work), _WORK, True), (step.out, _OUT, True)),
            variables=variables,
            limits=step.task.limits,
            network=network_of(step.spec.network),
            pull=step.spec.pull,
            command=step.spec.program,
        )
        try:
            code = step.console.run_program(
                run_argv(engine, run, credentials),
                cwd=place.folder,
                env=client_environment(),
                network=True,
                sandboxed=False,
            )
        except OSError as error:
            raise StepError(f"{engine.name} could not be started: {error.strerror}.") from error
    step.exit_code = code
    interface.read_progress(step, place.share, place="")
    if code and not step.spec.network:
        step.console.info(NO_NETWORK_HINT)
    if code:
        raise StepError(_reason(image, code, step.task.limits.memory_mb), retryable=True)


def _variables(step: Step) -> dict[str, str]:
    """What programs in the image find in their environment."""
    spec, task = step.spec, step.task
    known = {
        "GALLEY_WORK": _WORK,
        "GALLEY_OUT": _OUT,
        "GALLEY_RUN": task.run_uid,
        "GALLEY_STEP": task.step_key,
        "GALLEY_ATTEMPT": task.key,
    }
    if spec.interface:
        known |= interface.variables(MOUNT, spec.share, spec.config_file)
    for script in spec.scripts:
        known |= {k: v for k, v in script.environment.items() if re.fullmatch(r"[A-Za-z_]\w*", k)}
    return known


def _reason(image: str, code: int, memory_mb: int | None) -> str:
    if code in _NOT_RUN:
        return f"The image {image} did not run: {_NOT_RUN[code]}."
    if code == _KILLED:
        limit = f" of {memory_mb} MB" if memory_mb else ""
        return f"The image {image} was killed, probably at its memory limit{limit}."
    return f"The image {image} {ended(code)}; the log has its output."
