"""/healthz, /readyz and /metrics: how the operator is, for probes and for Prometheus. Plain text, no names of objects.

Healthy means that it works as a process: whoever supervises it need not start it again. Ready means that what it
says can be relied upon: it has looked at everything that existed when it started, and the API server answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.operator import Operator

SILENT_SECONDS = 10.0
"""An API server that was not heard for so long is asked; one that doesn't answer then makes us unready."""
ASK_SECONDS = 2.0
CLOSE_SECONDS = 1.0


class Endpoints:
    """A small HTTP server beside an operator."""

    def __init__(self, operator: Operator, kube: Kube) -> None:
        self._operator = operator
        self._kube = kube
        self._asking = asyncio.Lock()
        app = web.Application()
        app.router.add_get("/healthz", self._telling(self.unwell))
        app.router.add_get("/readyz", self._telling(self.unready))
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def listen(self, host: str, port: int) -> str:
        """Begin to serve; the URL. Port 0 takes a free one. Raises OSError where that can't be listened on."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        where = self._runner.addresses[0]
        name = f"[{where[0]}]" if ":" in where[0] else where[0]
        return f"http://{name}:{where[1]}"

    async def close(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    # --- what is missing

    async def unwell(self) -> list[str]:
        """Why the operator should be started again."""
        operator = self._operator
        if operator.closing:
            return []
        missing = [f"the loop {name} has ended" for name, loop in operator.loops.items() if loop.done()]
        if operator.lost is not None and operator.lost.done():
            missing.append("what is known of the API server can't be trusted any more; starting afresh")
        return missing

    async def unready(self) -> list[str]:
        """Why the operator can't be relied upon."""
        operator = self._operator
        if operator.closing:
            return ["shutting down"]
        missing = await self.unwell()
        if not operator.loops:
            missing.append("starting: what exists is not known yet")
        elif not operator.caught_up.is_set():
            missing.append(f"starting: {operator.unseen} objects have not been looked at yet")
        await self._ask()
        if self._silent():
            heard = operator.heard_at
            since = (
                "has not answered yet"
                if heard is None
                else f"last answered {time.monotonic() - heard:.0f} s ago"
            )
            missing.append(f"the API server {since}")
        return missing

    def _silent(self) -> bool:
        heard = self._operator.heard_at
        return heard is None or time.monotonic() - heard > SILENT_SECONDS

    async def _ask(self) -> None:
        """Have the API server say something, where it had no occasion to."""
        async with self._asking:
            if self._silent():
                with suppress(ApiError, TimeoutError):
                    async with asyncio.timeout(ASK_SECONDS):
                        await self._kube.request("GET", "/readyz")

    # --- answers

    @staticmethod
    def _telling(
        look: Callable[[], Awaitable[list[str]]],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            missing = await look()
            return web.Response(text="\n".join(missing or ["ok"]) + "\n", status=503 if missing else 200)

        return answer

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        body = encode(self._operator.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": kind})
