"""What a process says about itself: log lines here; its metrics are in `telemetry.metrics`, which takes a library."""

from coherence_grpc.telemetry.logs import configure, new_error_id

__all__ = ["configure", "new_error_id"]
