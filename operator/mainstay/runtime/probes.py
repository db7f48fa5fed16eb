"""Asks where the truth about assets is: by HTTP, or by a command on this host."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import aiohttp
from yarl import URL

from mainstay.core.asset.observation import ObservationError, Question, shown
from mainstay.runtime import commands, strictjson
from mainstay.runtime.base import ANSWER_BYTES
from mainstay.runtime.process.declare import account, base_environment

CONNECTIONS, COMMANDS = 128, 32
"""Questions of each kind at once; the others wait, which is no part of their time."""
QUOTED = 200
"""Characters of a command's stderr that an error tells."""
_SECRET = 4
"""Shorter values are words that anything may contain."""
_CHUNK = 65536


class HostProbes:
    """Implements Probes. `home` is where commands run unless they say otherwise.

    The environment of a command is HOME, USER, PATH, LANG, TZ and what the question adds. Of a text that a command
    wrote to stderr only the last line is told, and no value of its environment.
    """

    def __init__(self, home: str) -> None:
        self._home = os.path.abspath(home)
        self._session: aiohttp.ClientSession | None = None
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._commands = asyncio.Semaphore(COMMANDS)
        self._start = asyncio.Lock()

    async def ask(self, question: Question) -> Any:
        """See Probes."""
        if question.argv:
            async with self._commands:
                async with self._start:
                    await asyncio.sleep(0)  # one start per turn of the loop: each holds it up until its exec
                return await self._run(question)
        asked = question.shown
        async with self._connections:
            try:
                async with asyncio.timeout(question.timeout_seconds):
                    body = await self._get(question)
            except TimeoutError:
                raise ObservationError(f"{asked}: no answer within {question.timeout_seconds:g} s") from None
            except _RefusedError as error:
                raise ObservationError(f"{asked} {error}") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise ObservationError(f"{asked}: {_words(error)}") from None
        try:
            return strictjson.decode(body)
        except ValueError as error:
            raise ObservationError(f"{asked}: the answer is {error}") from None

    async def close(self) -> None:
        """See Probes."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- HTTP ------------------------------------------------------------------------------------

    async def _get(self, question: Question) -> bytes:
        if broken := [name for name, value in question.headers.items() if set(value) & set("\r\n\0")]:
            raise _RefusedError(f"can't be asked: the value of header {broken[0]} has more than one line")
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,  # a small answer may become a large one
                trust_env=False,
            )
        url = URL(question.url, encoded=True)
        async with self._session.get(url, headers=question.headers, allow_redirects=False) as response:
            refused = _refused(response, question)
            body = bytearray()
            if refused is None:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        refused = f"was answered with more than {ANSWER_BYTES} bytes"
                        break
            if refused is not None:
                response.close()  # the rest is not read
                raise _RefusedError(refused)
        return bytes(body)

    # -- a command -------------------------------------------------------------------------------

    async def _run(self, question: Question) -> Any:
        env = base_environment(account(None), {})
        del env["PYTHONUNBUFFERED"]
        try:
            ended = await commands.run(
                question.argv,
                env=env | dict(question.env),
                cwd=self._directory(question.working_dir),
                seconds=question.timeout_seconds,
                most_bytes=ANSWER_BYTES,
                guarded=True,
            )
        except commands.CommandError as error:
            raise ObservationError(str(error)) from None
        if ended.code:
            said = _printable(_masked(ended.last_line, question.env))
            raise ObservationError(
                f"{question.shown} exited with {ended.code}" + (f": {said}" if said else "")
            )
        try:
            return strictjson.decode(ended.output)
        except ValueError as error:
            raise ObservationError(f"what {question.shown} wrote is {error}") from None

    def _directory(self, asked: str | None) -> str:
        path = os.path.normpath(os.path.join(self._home, asked or ""))
        inside = os.path.commonpath([path, self._home]) == self._home
        if not inside and not os.path.isabs(asked or ""):
            raise ObservationError(
                f"workingDir {asked!r} leads out of Mainstay's home; give an absolute path instead"
            )
        return path


class _RefusedError(Exception):
    """Why an answer doesn't count, in our own words."""


def _refused(response: aiohttp.ClientResponse, question: Question) -> str | None:
    if 300 <= response.status < 400 and (place := response.headers.get("Location")):
        there = _printable(_masked(shown(place), question.headers))
        return f"was answered with {response.status}, a redirect to {there}, which is not followed; ask there"
    if response.status != 200:
        return f"was answered with {response.status}"
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", ""):
        return f"was answered in {_printable(encoding)[:40]}, which was not asked for"
    return None


def _words(error: Exception) -> str:
    """What went wrong; texts of the library are not told, they may have the url or something of the answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return (
                f"no connection: {_printable(str(error.os_error if hasattr(error, 'os_error') else error))}"
            )
        case aiohttp.ClientConnectorError(os_error=cause):
            known = cause.errno is not None and cause.errno > 0
            return (
                f"no connection: {os.strerror(cause.errno or 0) if known else cause.strerror or 'it failed'}"
            )
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientResponseError():
            return "the answer is no HTTP"
        case aiohttp.InvalidURL() | ValueError():
            return "it can't be asked: the url, or a header, is not a valid one"
        case OSError(errno=int(number)):
            return f"the connection failed: {os.strerror(number)}"
        case _:
            return f"the connection failed ({type(error).__name__})"


def _masked(text: str, secrets: Mapping[str, str]) -> str:
    """The text without these values."""
    values = {part for value in secrets.values() for part in (value, unquote(value), *value.split())}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SECRET:
            text = text.replace(value, "…")
    return text


def _printable(text: str) -> str:
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= QUOTED else clean[: QUOTED - 1] + "…"
