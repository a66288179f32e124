"""Published rows, for a few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from coherence_grpc.adapters.redis.link import Script, Tally, run
from coherence_grpc.errors import CoherenceError
from coherence_grpc.model import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.adapters.redis.link import Link

# A row of another shape gets another number here, so that releases side by side don't read each other's.
SHAPE: Final = 2
# Instant and entry, then the version, as digits: they compare as text. Numbers in Lua are exact only up to 2⁵³.
_NUMBER: Final = 20
_FENCE: Final = 3 * _NUMBER
_HEADER: Final = 5 * _NUMBER

PUT: Final = Script(f"""
for i, key in ipairs(KEYS) do
  local row = ARGV[i + 1]
  local there = string.match(redis.call('GETRANGE', key, 0, {_HEADER - 1}), '^%d+$') or ''
  if #there < {_HEADER} or string.sub(row, 1, {_FENCE}) >= string.sub(there, 1, {_FENCE})
    and string.sub(row, {_FENCE + 1}, {_HEADER}) >= string.sub(there, {_FENCE + 1}) then
    redis.call('SET', key, row, 'PX', ARGV[1])
  end
end
""")

_decoder: Final = msgspec.json.Decoder(Score)


class RedisScores:
    """One string per tenant: what the fence compares, and the row as JSON, whose integers have any size."""

    def __init__(self, link: Link, prefix: str, ttl_s: float) -> None:
        self._link = link
        self._prefix = f"{prefix}score:{SHAPE}:"
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self.tally = Tally()

    async def get(self, tenant_ids: Sequence[str]) -> Mapping[str, Score]:
        """The rows that are there, as they were put; none when Redis does not answer."""
        if not tenant_ids:
            return {}
        try:
            async with self._link.call() as ask:
                rows = await ask("MGET", *[self._prefix + tenant_id for tenant_id in tenant_ids])
        except CoherenceError:
            self.tally.errors += 1
            return {}
        scores = (_score(row) for row in rows if row is not None)
        found = {score.tenant_id: score for score in scores if score is not None}
        self.tally.hits += len(found)
        self.tally.misses += len(set(tenant_ids)) - len(found)
        return found

    async def put(self, scores: Sequence[Score]) -> None:
        """Each row is kept unless (signal epoch, as_of_seq, window_end) or its version is below the one in place.

        A version may be skipped: the row before it may never have come here.
        """
        if not scores:
            return
        names = [self._prefix + score.tenant_id for score in scores]
        try:
            async with self._link.call() as ask:
                await run(ask, PUT, names, [self._ttl_ms, *map(_row, scores)])
        except CoherenceError:
            self.tally.errors += 1


def _row(score: Score) -> bytes:
    numbers = (score.signal_epoch, score.as_of_seq, score.window_end, score.score_epoch, score.version)
    return b"".join(b"%0*d" % (_NUMBER, number) for number in numbers) + msgspec.json.encode(score)


def _score(row: bytes) -> Score | None:
    try:
        return _decoder.decode(row[_HEADER:])
    except msgspec.MsgspecError:
        return None
