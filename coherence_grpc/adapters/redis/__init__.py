"""Doorbell, dedupe marks, score cache and rate limiter on Redis: they save work and time, and nothing needs them."""

from coherence_grpc.adapters.redis.diagnosing import read_clock
from coherence_grpc.adapters.redis.link import Counts
from coherence_grpc.adapters.redis.opening import RedisParts, check, open_redis

__all__ = ["Counts", "RedisParts", "check", "open_redis", "read_clock"]
