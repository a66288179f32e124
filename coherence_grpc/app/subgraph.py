"""The subgraph's process: started, listened to, and ended by the one that serves.

It holds the read end of a pipe from us: when we are gone, however we went, it reads the end and exits. On another pipe
it says where it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from coherence_grpc.config import Settings

READY_S: Final = 30.0
STOP_S: Final = 10.0
_READY_BYTES: Final = 4096


class Subgraph:
    """A child process, once it is started; `stop` ends it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._said: asyncio.Task[bytes] | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def start(self, grpc_address: str) -> None:
        """Start it; it imports its libraries while we open the stores."""
        lifeline_end, self._lifeline = os.pipe()
        ready_end, ready_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "subgraph"),
                stdin=subprocess.DEVNULL,
                # Our stdout is for the ready line.
                stdout=sys.stderr.fileno(),
                env=self._environment(grpc_address, lifeline_end, ready_write),
                pass_fds=(lifeline_end, ready_write),
                # Ctrl-C reaches a terminal's whole process group, and we are the ones to drain this process.
                process_group=0,
            )
        finally:
            os.close(lifeline_end)
            os.close(ready_write)
        self._said = asyncio.create_task(asyncio.to_thread(_read_line, ready_end))
        threading.Thread(target=self._await_end, args=(self._process, asyncio.get_running_loop()), daemon=True).start()

    async def ready(self) -> str:
        """Its HTTP address, once it listens; '' when none was started.

        Raises:
            SettingsInvalid: it ended before it listened; its own words are in the log.
        """
        if self._said is None:
            return ""
        try:
            line = await asyncio.wait_for(asyncio.shield(self._said), READY_S)
            return str(json.loads(line)["http"])
        except (TimeoutError, ValueError, KeyError):
            message = (
                f"http: the subgraph does not listen on {self._settings.http}: its own words are above;"
                " choose another address with --http (port 0: a free one), or go without: --http off"
            )
            raise SettingsInvalid(message) from None

    async def ended(self) -> int:
        """Its exit code, once it has ended; never, when none was started."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Ask it to drain, and end it when it doesn't."""
        process = self._process
        if process is None or self._said is None or self._lifeline is None:
            return
        if not self._ended.done():
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended(), STOP_S)
            if not self._ended.done():
                process.kill()
                await self._ended
        await self._said
        os.close(self._lifeline)
        self._process = None

    def _environment(self, grpc_address: str, lifeline_fd: int, ready_fd: int) -> dict[str, str]:
        settings = self._settings
        return {
            **os.environ,
            "COHERENCE_GRPC": grpc_address,
            "COHERENCE_HTTP": settings.http or "",
            "COHERENCE_LIFELINE_FD": str(lifeline_fd),
            "COHERENCE_READY_FD": str(ready_fd),
            "COHERENCE_RUNTIME_FILE": str(settings.runtime_file),
            "COHERENCE_PROFILE": settings.profile,
            "COHERENCE_LOG": settings.log,
        }

    def _await_end(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        code = process.wait()
        with suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(self._ended.set_result, code)


def _read_line(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.readline(_READY_BYTES)
