"""What Prometheus reads. Where PROMETHEUS_MULTIPROC_DIR is set (`serve` does), the workers' figures are added up."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

REQUESTS = Histogram(
    "model_service_request_seconds", "Time from a request to its answer.", ["method", "route", "status"]
)
ROWS = Counter("model_service_predictions", "Predictions stored.", ["model", "version"])


def exposition() -> bytes:
    """Return the figures in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
