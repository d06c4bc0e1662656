"""The metrics for Prometheus, counted in this process since its start."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tasks.core.serving.gateway.request_trace import RequestTrace

# From a cached word on a GPU to a long prompt on a CPU.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters. Labels are our paths and the operator's key names, never a client's text."""

    def __init__(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        in_flight: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kawan_usaha_requests",
            "Requests, by path, status and the name of the key; status 499: the client left.",
            ("path", "status", "key"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "kawan_usaha_request_seconds",
            "From a request's first byte to its answer's last one.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first_token = Histogram(
            "kawan_usaha_first_token_seconds",
            "From a request's first byte to the first token of its answer, waiting included.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._prompt_tokens = _tokens(self._registry, "kawan_usaha_prompt_tokens", "Tokens read.")
        self._answer_tokens = _tokens(self._registry, "kawan_usaha_answer_tokens", "And written.")
        self._incidents = Counter(
            "kawan_usaha_incidents",
            "What went wrong behind the gateway.",
            ("kind",),
            registry=self._registry,
        )
        self._registry.register(_Now(running, waiting, in_flight))

    def ended(self, trace: RequestTrace) -> None:
        """Count a request that has ended."""
        self._requests.labels(trace.path, str(trace.status), trace.key_name).inc()
        self._seconds.labels(trace.path).observe(trace.seconds)
        if trace.first_token_s is not None:
            self._first_token.observe(trace.first_token_s)
        self._prompt_tokens.labels(trace.key_name).inc(trace.prompt_tokens)
        self._answer_tokens.labels(trace.key_name).inc(trace.answer_tokens)

    def incident(self, kind: str) -> None:
        """Count an incident."""
        self._incidents.labels(kind).inc()

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Now(Collector):
    """The gauges, read when they are collected."""

    def __init__(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        in_flight: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        self._running = running
        self._waiting = waiting
        self._in_flight = in_flight

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the gauges."""
        yield GaugeMetricFamily("kawan_usaha_running", "Answers in progress.", self._running())
        yield GaugeMetricFamily("kawan_usaha_waiting", "Requests that wait.", self._waiting())
        gauge = GaugeMetricFamily(
            "kawan_usaha_in_flight", "What each engine is asked.", labels=("slot", "upstream")
        )
        for slot, counts in self._in_flight().items():
            for upstream, count in counts.items():
                gauge.add_metric((slot, upstream), count)
        yield gauge


def _tokens(registry: CollectorRegistry, name: str, help_text: str) -> Counter:
    return Counter(name, help_text, ("key",), registry=registry)
