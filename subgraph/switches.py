"""The backbone's runtime switches, as last heard."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from subgraph.backbone import Caller
from subgraph.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from subgraph.backbone import Backbone

POLL_S: Final = 2.0
_log: Final = logging.getLogger(__name__)


class Switches:
    """Where the switches stand; the last known state is kept while the backbone can't be asked."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.free_text = False

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[Switches]:
        """Keep asking until leaving."""
        polling = asyncio.create_task(self._poll())
        try:
            yield self
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    async def refresh(self) -> None:
        """Ask once."""
        try:
            info = await self._backbone.server_info(Caller("graphql"))
        except Refused as refused:
            _log.debug("switches not heard", extra={"fields": {"code": refused.refusal.code}})
            return
        free_text = any(switch.name == "free_text" and switch.value == "on" for switch in info.switches)
        if free_text != self.free_text:
            _log.warning("free text switched", extra={"fields": {"free_text": "on" if free_text else "off"}})
        self.free_text = free_text

    async def _poll(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)
