"""What the server and its template say to each other, and the files of an attempt's folder."""

import os
import struct
from pathlib import Path

import msgspec

from galley.core.runs.plan import Limits
from galley.core.runs.task import Outcome
from galley.kit.files import write_atomically

EXIT_FILE = "exit.json"
STOP_FILE = "stop.json"
NOT_OURS = 75  # a shim's exit status when another process holds the claim
COULD_NOT_BEGIN = 73  # a shim's exit status when its folders or its log could not be made
FAILED_TO_REPORT = 74  # a shim's exit status when its exit file could not be written

REQUEST = struct.Struct("<QI")
"""Serial and generation of the claim. The task rides along as a descriptor, or it is an empty step,
whose places (see `empty`) follow."""
MOST_PLACES_BYTES = 16_384  # two paths, each longer than the kernel takes one
REPORT = struct.Struct("<cQq")  # kind, serial, value; a text may follow
READY, STARTED, EXITED, REFUSED, BROKEN = b"r", b"s", b"x", b"n", b"!"

CANCELED, TIMED_OUT, OVER_DISK = "canceled", "timed_out", "over_disk"
OWNER_VARIABLE = "GALLEY_PROCESS_OF"  # every program bears it: the folder of its attempt


class TemplateSettings(msgspec.Struct, frozen=True):
    """What a template is started with and every shim inherits.

    `run_step` is `module:function`; `preload` names modules worth importing once; `folder` is the
    executor's own.
    """

    folder: str

    run_step: str
    preload: tuple[str, ...]
    sandbox: bool
    log_limit_bytes: int
    limits: Limits


class Stop(msgspec.Struct, frozen=True):
    """Why a shim is told to stop, and how long its programs may take over it.

    `text` says it for people where `why` alone does not: what the step did.
    """

    why: str
    grace_s: float
    text: str = ""


_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_stop = msgspec.json.Decoder(Stop).decode
_encode = msgspec.json.Encoder().encode


def write_outcome(folder: str, outcome: Outcome) -> None:
    """Leave the exit file, which is read once its writer has ended: half of it is no JSON.

    It need not outlive the machine: after a power cut the attempt is lost in any case.
    """
    path = f"{folder}/{EXIT_FILE}"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(_encode(outcome))
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def read_outcome(folder: str) -> Outcome | None:
    """The exit file's content; None if there is none, if it is damaged or cannot be read."""
    try:
        content = Path(folder, EXIT_FILE).read_bytes()
    except OSError:
        return None
    try:
        return _decode_outcome(content)
    except msgspec.DecodeError:
        return None


def write_stop(folder: str, stop: Stop) -> None:
    """Tell the shim why, before it gets its signal."""
    write_atomically(Path(folder, STOP_FILE), _encode(stop), durable=False)


def read_stop(folder: str) -> Stop | None:
    """Why the attempt was told to stop, or None if nobody of ours told it."""
    try:
        return _decode_stop(Path(folder, STOP_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def stopped_outcome(stop: Stop, timeout_s: float | None) -> Outcome:
    """The outcome of an attempt that was told to stop."""
    if stop.why == TIMED_OUT:
        limit = "its time" if timeout_s is None else f"{timeout_s:g} s"
        return Outcome(
            state="failed",
            reason=f"timed out after {limit}: raise the step's timeout, or make it do less",
        )
    if stop.why == OVER_DISK:
        return Outcome(state="failed", reason=stop.text, retryable=False)
    return Outcome(state="canceled", reason="canceled on request", retryable=False)
