"""Keeps a template running: starts it, reads its reports, starts another one when it goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from galley.engine.executors.local import messages
from galley.engine.executors.local.link import Report, TemplateLink, last_complaint
from galley.engine.executors.local.loop import Loop

log = structlog.get_logger("galley.executor")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_GIVE_UP_AFTER = 3


class Customer(Protocol):
    """Who has attempts for the template, and hears of it."""

    def on_started(self) -> None:
        """There is a template to hand attempts to."""

    def on_report(self, report: Report) -> None:
        """The template told something about an attempt."""

    def on_gone(self) -> None:
        """The template has ended; what was in its hands has to be looked for."""

    def on_failing(self, why: str) -> None:
        """No template starts, again and again."""


class TemplateKeeper:
    """Keeps one template; belongs to its loop's thread, but for `trouble`."""

    def __init__(
        self, loop: Loop, make: Callable[[], TemplateLink], complaints: Path, customer: Customer
    ) -> None:
        self._loop = loop
        self._make = make
        self._complaints = complaints
        self._customer = customer
        self._faults = 0
        self._complaint = ""
        self.link: TemplateLink | None = None

    @property
    def trouble(self) -> str | None:
        """Why the template does not start, while that is so; may be read from any thread."""
        return (self._complaint or "the template does not start") if self._faults else None

    def start(self) -> None:
        """Start the template, unless there is one."""
        if self._loop.stopping or self.link is not None:
            return
        try:
            link = self._make()
        except OSError as error:
            self._complaint = str(error)
            self._after_fault()
            return
        self.link = link
        self._loop.watch(link, self._read)
        self._customer.on_started()

    def replace(self) -> None:
        """Let this template go and start another one; the shims of the old one go on."""
        link = self._give_up()
        if link is None:
            return
        try:
            self._customer.on_gone()
        finally:
            if link.ready:
                log.warning("template_gone", pid=link.pid)
                self.start()
            else:
                self._after_fault()

    def close(self) -> None:
        """Let the template end."""
        self._give_up()

    def _give_up(self) -> TemplateLink | None:
        link, self.link = self.link, None
        if link is not None:
            self._loop.unwatch(link)
            link.close()
        return link

    def _read(self) -> None:
        """Take in all that the template has told."""
        link = self.link
        while link is not None and link is self.link:
            try:
                report = link.receive()
            except BlockingIOError:
                return
            if report is None:
                self.replace()
            elif report.kind == messages.READY:
                link.ready = True
                self._faults = 0
            elif report.kind == messages.BROKEN:
                log.error("template_broken", said=report.text)
                self._complaint = report.text.splitlines()[0]
            else:
                self._customer.on_report(report)

    def _after_fault(self) -> None:
        """The template could not start: try later; after some tries, say so to who waits."""
        self._faults += 1
        pause_s = min(_FIRST_PAUSE_S * 2 ** (self._faults - 1), _LONGEST_PAUSE_S)
        self._loop.after(pause_s, self.start)
        if self._faults < _GIVE_UP_AFTER:
            return
        said = self._complaint or last_complaint(self._complaints)
        log.error("template_cannot_start", tries=self._faults, said=said)
        self._customer.on_failing(said)
