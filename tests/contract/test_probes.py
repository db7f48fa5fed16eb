"""The contract of Probes, the same for those of this host and for the fake; then what only real ones can show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.probe_harness import CARGO, LONGEST, NO_JSON, SECRET, FakePlace, HostPlace, refused

from mainstay.core.asset.observation import ObservationError, Question
from mainstay.runtime.fake_probes import FakeProbes

WAYS = ("http", "command")


@pytest.fixture(params=["fake", "host"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakePlace | HostPlace]:
    made = FakePlace(tmp_path) if request.param == "fake" else HostPlace(tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[HostPlace]:
    made = HostPlace(tmp_path)
    await made.open()
    yield made
    await made.close()


class TestProbes:
    @pytest.mark.parametrize("way", WAYS)
    async def test_json_is_told_as_it_is(self, place, way):
        assert await place.probes.ask(getattr(place, way)(json.dumps(CARGO))) == CARGO
        assert await place.probes.ask(getattr(place, way)("null")) is None

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("text", NO_JSON)
    async def test_anything_but_json_is_no_answer(self, place, way, text):
        await refused(place, getattr(place, way)(text))

    @pytest.mark.parametrize("way", WAYS)
    async def test_only_so_much_is_read(self, place, way):
        assert len(await place.probes.ask(getattr(place, way)(LONGEST))) == len(LONGEST) - 2
        await refused(place, getattr(place, way)(LONGEST + " "))

    @pytest.mark.parametrize("status", [201, 204, 301, 307, 404, 500, 503])
    async def test_only_status_200_counts(self, place, status):
        question = place.http("" if status == 204 else "[]", status=status)
        assert f"was answered with {status}" in await refused(place, question)

    async def test_only_exit_code_0_counts(self, place):
        assert "exited with 3" in await refused(place, place.command("[]", code=3))

    @pytest.mark.parametrize("way", WAYS)
    async def test_it_takes_no_longer_than_it_may(self, place, way):
        said = await refused(place, getattr(place, way)("[]", slow=True, timeout_seconds=0.3))
        assert "0.3 s" in said

    async def test_nobody_answers(self, place):
        question = place.nobody()
        assert question.shown in await refused(place, question)
        assert "no-such-probe-x" in await refused(place, place.no_program())

    async def test_secrets_are_not_told(self, place):
        more = {
            "headers": {"Authorization": f"Bearer {SECRET}"},
            "tail": f"?key={SECRET}&{SECRET}#{SECRET}",
            "status": 503,
            "text": SECRET,
        }
        asked = [place.http(user="", **more)]
        asked.append(place.http(**{**more, "headers": {}, "user": f"u:{SECRET}@"}))
        told = [await refused(place, question) for question in asked]
        told.append(
            await refused(place, place.command(SECRET, code=1, errors=f"bad {SECRET}\n", env={"KEY": SECRET}))
        )
        for question, said in zip((*asked, place.command(env={"KEY": SECRET})), told, strict=True):
            assert SECRET not in said
            assert SECRET not in question.shown
        assert SECRET not in repr(Question(headers={"A": SECRET}, env={"B": SECRET}))

    @pytest.mark.parametrize("way", WAYS)
    async def test_questions_side_by_side(self, place, way):
        question = getattr(place, way)(json.dumps(CARGO))
        assert await asyncio.gather(*(place.probes.ask(question) for _ in range(5))) == [CARGO] * 5

    async def test_an_answer_is_the_askers_own(self, place):
        question = place.http(json.dumps(CARGO))
        (await place.probes.ask(question))["cargo"].clear()
        assert await place.probes.ask(question) == CARGO


class TestHttp:
    async def test_headers_are_sent_and_no_cookies_are_kept(self, host):
        question = host.http("[]", headers={"Authorization": SECRET}, answer_headers={"Set-Cookie": "a=b"})
        await host.probes.ask(question)
        await host.probes.ask(question)
        assert [request.headers["Authorization"] for request in host.requests] == [SECRET] * 2
        assert "Cookie" not in host.requests[1].headers

    async def test_the_url_is_sent_as_it_is_declared(self, host):
        await host.probes.ask(host.http("[]", tail="/a%2Fb%20c?x=%7e+1&y"))
        assert host.requests[0].raw_path == "/ship/a%2Fb%20c?x=%7e+1&y"

    async def test_a_proxy_of_the_environment_is_not_used(self, host, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", host.nobody().url)
        assert await host.probes.ask(host.http("[]")) == []

    async def test_a_redirect_is_told_and_not_followed(self, host):
        place = f"http://u:{SECRET}@127.0.0.1:{host.port}/there?key={SECRET}"
        said = await refused(host, host.http(status=302, answer_headers={"Location": place}))
        assert f"a redirect to http://127.0.0.1:{host.port}/there?key=…" in said
        assert len(host.requests) == 1

    async def test_what_is_packed_is_not_unpacked(self, host):
        said = await refused(host, host.http("[]", answer_headers={"Content-Encoding": "gzip"}))
        assert "gzip" in said

    async def test_a_header_of_two_lines_is_no_second_header(self, host):
        said = await refused(host, host.http("[]", headers={"Authorization": f"{SECRET}\nX-Other: 1"}))
        assert "Authorization" in said
        assert SECRET not in said
        assert host.requests == []

    @pytest.mark.parametrize(
        "url", [f"http://u:{SECRET}@[::1", f"http://u:{SECRET}@h:99999/", f"http://u:{SECRET}@/x", "http://"]
    )
    async def test_an_url_that_is_none(self, host, url):
        assert SECRET not in await refused(host, Question(url=url))

    async def test_a_server_that_speaks_something_else(self, host):
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"220 {SECRET}\r\n\r\n".encode())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        said = await refused(host, Question(url=f"http://127.0.0.1:{port}/?key={SECRET}"))
        assert "no HTTP" in said
        assert SECRET not in said
        server.close()

    async def test_cancelled_it_hangs_up(self, host):
        asking = asyncio.create_task(host.probes.ask(host.http(slow=True, timeout_seconds=60)))
        await host.running.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(host.left.wait(), 10)

    async def test_it_can_be_asked_again_after_close(self, host):
        question = host.http("[]")
        await host.probes.ask(question)
        await host.probes.close()
        assert await host.probes.ask(question) == []


class TestFake:
    def test_a_held_answer_needs_no_event_loop(self):
        fake = FakeProbes()
        fake.answers["http://a/"] = 1
        fake.hold("http://a/")
        asking = fake.ask(Question(url="http://a/"))
        for _ in range(3):
            assert asking.send(None) is None
        assert (fake.waiting, len(fake.asked), len(fake.answered)) == (1, 1, 0)
        fake.answers["http://a/"] = 2
        fake.let("http://a/")
        with pytest.raises(StopIteration) as end:
            asking.send(None)
        assert end.value.value == 2
        assert (fake.waiting, len(fake.answered)) == (0, 1)

    def test_who_never_drives_it_on_has_not_been_answered(self):
        fake = FakeProbes()
        fake.hold()
        asking = fake.ask(Question(argv=("look",)))
        asking.send(None)
        asking.close()
        assert (fake.waiting, len(fake.asked), fake.answered) == (0, 1, [])

    async def test_a_function_answers_by_the_question(self):
        fake = FakeProbes()
        fake.answers["look",] = lambda question: (
            [question.env["N"]] if question.env else ObservationError("no")
        )
        assert await fake.ask(Question(argv=("look",), env={"N": "3"})) == ["3"]
        with pytest.raises(ObservationError, match="no"):
            await fake.ask(Question(argv=("look",)))
        await fake.close()
        assert fake.closed
