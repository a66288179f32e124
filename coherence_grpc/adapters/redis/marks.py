"""Which keys were stored with what payload, for a while."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.redis.link import Script, Tally, run
from coherence_grpc.errors import CoherenceError
from coherence_grpc.failpoints import failpoint
from coherence_grpc.ledger import lp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.adapters.redis.link import Link
    from coherence_grpc.model import Key

DIGEST_BYTES: Final = 16
# Redis serves nobody else while a script runs: some 2 ms for so many keys.
PIECE: Final = 1000

# A mark is the payload's digest and then the entry's number. Two processes may mark one key in either order.
MARK: Final = Script(f"""
for i, key in ipairs(KEYS) do
  local there = redis.call('GET', key)
  if not there or (tonumber(string.sub(there, {DIGEST_BYTES + 1})) or 0) < tonumber(ARGV[2 * i + 1]) then
    redis.call('SET', key, ARGV[2 * i] .. ARGV[2 * i + 1], 'PX', ARGV[1])
  end
end
""")


class RedisMarks:
    """One string per key of the log, under a digest of it: what a caller named a signal stays out of Redis."""

    def __init__(self, link: Link, prefix: str, ttl_s: float) -> None:
        self._link = link
        self._prefix = f"{prefix}mark:".encode()
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self.tally = Tally()

    async def known(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes]) -> Sequence[int]:
        """The entry of each key whose mark has the payload's digest; all 0 when Redis does not answer."""
        if not keys:
            return []
        names = self._names(epoch, keys)
        marks: list[bytes | None] = []
        try:
            async with self._link.call() as ask:
                for start in range(0, len(names), PIECE):
                    marks += await ask("MGET", *names[start : start + PIECE])
        except CoherenceError:
            self.tally.errors += 1
            return [0] * len(keys)
        seqs = [_seq(mark, payload) for mark, payload in zip(marks, payloads, strict=True)]
        self.tally.misses += seqs.count(0)
        self.tally.hits += len(seqs) - seqs.count(0)
        return seqs

    async def mark(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes], seqs: Sequence[int]) -> None:
        """Written unless a newer entry's mark is there; nothing is remembered when Redis does not answer."""
        names = self._names(epoch, keys)
        values = [part for payload, seq in zip(payloads, seqs, strict=True) for part in (_digest(payload), seq)]
        try:
            failpoint("mark.before")
            async with self._link.call() as ask:
                for start in range(0, len(names), PIECE):
                    end = start + PIECE
                    await run(ask, MARK, names[start:end], [self._ttl_ms, *values[2 * start : 2 * end]])
        except CoherenceError:
            self.tally.errors += 1

    def _names(self, epoch: int, keys: Sequence[Key]) -> list[bytes]:
        prefix = b"%s%d:" % (self._prefix, epoch)
        return [
            prefix + _digest(lp(tenant_id.encode()) + lp(source.encode()) + lp(signal_id.encode()) + b"%d" % ts)
            for tenant_id, source, signal_id, ts in keys
        ]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def _seq(mark: bytes | None, payload: bytes) -> int:
    """The mark's entry, if it is one of this payload."""
    if mark is None or mark[:DIGEST_BYTES] != _digest(payload):
        return 0
    digits = mark[DIGEST_BYTES:]
    return int(digits) if digits.isdigit() else 0
