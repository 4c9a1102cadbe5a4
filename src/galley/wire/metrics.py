"""What Galley counts about itself, in Prometheus' text form."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # type: ignore[no-untyped-call] # one more line for each series, which nobody reads
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One server's counters. Requests are counted by route template, never by address."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "galley_requests",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "galley_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show a number that is read whenever somebody asks."""
        self._registry.register(_Reader(name, help_text, (), lambda: {(): read()}))

    def watch_many(
        self, name: str, help_text: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Show one number for each value of a label, read whenever somebody asks."""
        self._registry.register(
            _Reader(
                name,
                help_text,
                (label,),
                lambda: {(value,): number for value, number in read().items()},
            )
        )

    def watch_totals(
        self, name: str, help_text: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """As `watch_many`, for numbers that only grow; `_total` is put behind the name."""
        self._registry.register(
            _Reader(
                name,
                help_text,
                (label,),
                lambda: {(value,): number for value, number in read().items()},
                family=CounterMetricFamily,
            )
        )

    def render(self) -> bytes:
        """All of it, in the text form."""
        return generate_latest(self._registry)


class _Reader(Collector):
    """A gauge (or another family) whose values are asked for at each look."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        read: Callable[[], Mapping[tuple[str, ...], float]],
        family: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily,
    ) -> None:
        self._family = family
        self._name = name
        self._help = help_text
        self._labels = labels
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """The family without values, so that registering it reads nothing."""
        return [self._family(self._name, self._help, labels=self._labels)]

    def collect(self) -> Iterator[Metric]:
        """The family with its values now."""
        family = self._family(self._name, self._help, labels=self._labels)
        for labels, number in self._read().items():
            family.add_metric(labels, number)
        yield family
