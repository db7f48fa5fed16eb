"""Sources that can't be run, nasty ones among them, and a compiling process that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstay.runtime.strategies import checker as module
from mainstay.runtime.strategies.checker import Checker

GOOD = {
    "a strategy": b"def on_candle(self):\n    return 1\n",
    "a BOM": b"\xef\xbb\xbfx = 1\n",
    "form feeds": b"\x0cx = 1\n\x0c\ndef f():\n    pass\n",
    "CRLF": b"if 1:\r\n    x = 1\r\n",
    "a surrogate": b'x = "\\ud800"\n',
    "Latin-1 that says so": b'# coding: latin-1\nx = "\xe9"\n',
    "warnings": b'x = "\\d"\nassert (1, 2)\n1 is 1\n',
    "nested lists": b"[" * 90 + b"]" * 90,
    "a long list": b"x = [\n" + b"1,\n" * 60000 + b"]\n",
    "nested f-strings": b"x = f\"{f'{1}'}\"\n",
    "a large constant": b"x = ('a' * 1000000) * 1000000\n",
}
BAD = {
    "syntax": (b"x = 1\ndef on_candle(self\n    pass\n", "line 2: "),
    "indentation": (b"if 1:\nx = 1\n", "line 2: "),
    "a NUL": (b"x = 1\ny = 2\0\n", "line 2: "),
    "UTF-16": ("x = 1\n".encode("utf-16"), "line 1: "),
    "Latin-1": (b'y = 1\nx = "\xe9"\n', "line 2: "),
    "an unknown coding": (b"# coding: nonsense\nx = 1\n", "line 1: "),
    "a coding that is no text": (b"# coding: hex\n78\n", "line 1: "),
    "open brackets": (b"(" * 10000, "line 1: "),
    "101 levels": (
        b"".join(b" " * n + b"if 1:\n" for n in range(101)) + b" " * 101 + b"pass\n",
        "line 101: ",
    ),
    "minus signs": (b"-" * 200000 + b"1", "line 1: "),
    "a long sum": (b"1+" * 100000 + b"1", "line 1: "),
    "attributes": (b"a." * 100000 + b"b", "line 1: "),
    "lambdas": (b"lambda:" * 50000 + b"1", "line 1: "),
    "lists of lists": (b"[" * 100000 + b"]" * 100000, "line 1: "),
    "calls of calls": (b"f" + b"()" * 100000, "line 1: "),
    "elif": (b"if a: pass\n" + b"elif a: pass\n" * 20000, "line "),
    "digits": (b"x = " + b"9" * 5000, "line 1: "),
    "return outside": (b"return 1\n", "line 1: "),
    "a BOM, then a NUL": (b"\xef\xbb\xbfx = 1\n\0", "line 2: "),
    "an unknown coding in the second line": (b"#!/bin/sh\n# coding: nonsense\nx = 1\n", "line 2: "),
    "tabs and spaces": (b"if 1:\n        x = 1\n\ty = 2\n", "line 3: "),
    "a control character": (b"x = 1\n\x01\n", "line 2: "),
    "a right-to-left mark": ("x = 1\ny = \u202e2\n".encode(), "line 2: "),
    "an open string": (b"x = '''\n" + b"a\n" * 1000, "line 1: "),
    "dictionaries": (b"{1:" * 250 + b"1" + b"}" * 250, "line 1: "),
    "101 f-strings": (b"x = " + b"f'{" * 101 + b"1" + b"}'" * 101, "line 1: "),
    "21 loops": (
        b"".join(b" " * n + b"for a in b:\n" for n in range(21)) + b" " * 21 + b"pass\n",
        "line ",
    ),
    "await outside": (b"await x\n", "line 1: "),
    "an import of all inside": (b"def f():\n    from os import *\n", "line 2: "),
    "a name twice": (b"def f(a, a):\n    pass\n", "line 1: "),
    "nonlocal": (b"nonlocal x\n", "line 1: "),
    "a surrogate in UTF-8": (b'x = 1\ny = "\xed\xa0\x80"\n', "line 2: "),
}


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    made = Checker()
    try:
        yield made
    finally:
        await made.close()


async def test_good_sources(checker) -> None:
    assert {name: await checker.problem("A.py", data) for name, data in GOOD.items()} == dict.fromkeys(GOOD)


async def test_bad_sources(checker) -> None:
    for name, (data, begins) in BAD.items():
        problem = await checker.problem("A.py", data)
        assert problem, name
        assert problem.startswith(begins), (name, problem)
        assert problem.isprintable(), name
        assert "crash" not in problem, name


async def test_the_source_line_is_bounded(checker) -> None:
    problem = await checker.problem("A.py", b"x = = " + b"1 " * 5000)
    assert len(problem) < 250


async def test_other_suffixes_are_only_looked_at_for_being_empty(checker) -> None:
    assert await checker.problem("A.json", b"(") is None
    for file in ("A.py", "A.json"):
        for data in (b"", b" \n\t\n"):
            assert await checker.problem(file, data) == "the file is empty"
    assert checker._process is None


async def test_nothing_is_executed_and_nothing_is_written(checker, tmp_path) -> None:
    data = f"open({str(tmp_path / 'made')!r}, 'w')\n".encode()
    assert await checker.problem("A.py", data) is None
    assert os.listdir(tmp_path) == []


async def test_the_process_has_nothing_of_ours_and_ignores_ctrl_c(checker, tmp_path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        await checker.problem("A.py", b"x = 1\n")
        pid = checker._process.pid
        held = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
        assert str(tmp_path) not in held
        assert len(held) <= 3
        os.kill(pid, signal.SIGINT)
        assert await checker.problem("A.py", b"x = 2\n") is None
        assert checker._process.pid == pid
    finally:
        os.close(descriptor)


async def test_a_process_that_is_killed_is_started_anew(checker) -> None:
    await checker.problem("A.py", b"x = 1\n")
    first = checker._process.pid
    slow = asyncio.create_task(checker.problem("A.py", b"x = [" + b"1," * 120000 + b"]\n"))
    await asyncio.sleep(0.005)
    os.kill(first, signal.SIGKILL)
    assert await slow is None
    assert checker._process.pid != first


async def test_a_source_that_kills_it_each_time(checker, monkeypatch, tmp_path) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import sys\nsys.stdin.buffer.read(8)\n")
    monkeypatch.setattr(module, "_PROGRAM", program)
    assert "crashes on it" in await checker.problem("A.py", b"x = 1\n")


async def test_a_source_that_takes_too_long(checker, monkeypatch, tmp_path) -> None:
    program = tmp_path / "sleeps.py"
    program.write_text("import time\ntime.sleep(60)\n")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_PROGRAM", program)
        patch.setattr(module, "LIMIT_SECONDS", 0.2)
        assert "to compile" in await checker.problem("A.py", b"x = 1\n")
    assert await checker.problem("A.py", b"x = 2\n") is None


async def test_who_stops_waiting_does_not_mix_up_answers(checker) -> None:
    await checker.problem("A.py", b"x = 1\n")
    waiting = asyncio.create_task(checker.problem("A.py", b"x = (\n"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await checker.problem("A.py", b"x = 2\n") is None


async def test_it_ends_when_idle_and_starts_again(checker, monkeypatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    assert await checker.problem("A.py", b"x = 1\n") is None
    pid = checker._process.pid
    async with asyncio.timeout(2):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)
    assert await checker.problem("A.py", b"x = 2\n") is None


async def test_an_answer_is_remembered(checker) -> None:
    data = b"x = [" + b"1," * 100000 + b"]\n"
    await checker.problem("A.py", data)
    began = time.perf_counter()
    for name in ("A.py", "B.py"):
        assert await checker.problem(name, data) is None
    assert time.perf_counter() - began < 0.1


async def test_that_it_took_too_long_is_not_remembered(checker, monkeypatch, tmp_path) -> None:
    program = tmp_path / "sleeps.py"
    program.write_text("import time\ntime.sleep(60)\n")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_PROGRAM", program)
        patch.setattr(module, "LIMIT_SECONDS", 0.2)
        await checker.problem("A.py", b"x = 1\n")
    assert await checker.problem("A.py", b"x = 1\n") is None


async def test_only_a_comment_can_be_run(checker) -> None:
    assert await checker.problem("A.py", b"# nothing\n") is None
    assert await checker.problem("A.py", b"\xef\xbb\xbf \n") == "the file is empty"


async def test_bad_sources_one_after_another_need_one_process(checker) -> None:
    await checker.problem("A.py", b"x = 1\n")
    pid = checker._process.pid
    for data, _ in BAD.values():
        await checker.problem("A.py", data)
    assert checker._process.pid == pid


async def test_a_process_that_is_killed_between_two(checker) -> None:
    for number in range(5):
        assert await checker.problem("A.py", f"x = {number}\n".encode()) is None
        os.kill(checker._process.pid, signal.SIGKILL)
        if number % 2:
            await checker._process.wait()


async def test_a_source_as_large_as_may_be(checker) -> None:
    line = b"value = compute(alpha, beta, [1, 2, 3], {'key': 'text'})\n"
    data = line * (262144 // len(line))
    assert await checker.problem("A.py", data) is None
    assert (await checker.problem("A.py", data + b"x = (")).startswith(f"line {262144 // len(line) + 1}: ")


async def test_many_at_once(checker) -> None:
    """Each gets its own answer, whoever gives up meanwhile."""

    async def ask(number: int) -> None:
        bad = number % 2
        problem = await checker.problem("A.py", b"\n" * number + (b"x = (\n" if bad else b"x = 1\n"))
        assert problem is None if not bad else problem.startswith(f"line {number + 1}: ")

    tasks = [asyncio.create_task(ask(number)) for number in range(50)]
    await asyncio.sleep(0.02)
    for task in tasks[::7]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = [r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)]
    assert wrong == []


async def test_the_same_at_once_is_asked_once(checker, monkeypatch) -> None:
    asked = []
    real = checker._ask

    async def count(file, data):
        asked.append(file)
        return await real(file, data)

    monkeypatch.setattr(checker, "_ask", count)
    assert await asyncio.gather(*(checker.problem("A.py", b"x = 1\n") for _ in range(20))) == [None] * 20
    assert len(asked) == 1


async def test_what_is_remembered_is_bounded(checker, monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for number in range(10):
        assert await checker.problem("A.py", f"x = {number}\n".encode()) is None
    assert len(checker._known) == 3


async def test_memory_is_bounded(checker) -> None:
    await checker.problem("A.py", b"x = 1\n")
    limits = Path(f"/proc/{checker._process.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert int(line.split()[3]) <= 2 << 30


async def test_no_cache_of_modules_is_written(checker, tmp_path, monkeypatch) -> None:
    program = tmp_path / "compiling.py"
    program.write_bytes(module._PROGRAM.read_bytes())
    monkeypatch.setattr(module, "_PROGRAM", program)
    assert await checker.problem(str(tmp_path / "A.py"), b"import os\n") is None
    assert os.listdir(tmp_path) == ["compiling.py"]


async def test_it_ends_with_an_operator_that_is_killed() -> None:
    code = (
        "import asyncio\n"
        "from mainstay.runtime.strategies.checker import Checker\n"
        "async def main():\n"
        "    checker = Checker()\n"
        "    await checker.problem('A.py', b'x = 1')\n"
        "    print(checker._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    env = {"PYTHONPATH": str(Path(module.__file__).parents[3])}
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, env=env)
    pid = int(await parent.stdout.readline())
    assert _alive(pid)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while _alive(pid):
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_closed_in_the_middle(checker) -> None:
    waiting = asyncio.create_task(checker.problem("A.py", b"x = [" + b"1," * 50000 + b"]\n"))
    await asyncio.sleep(0.01)
    await checker.close()
    assert await waiting is None
    assert checker._process is None
    assert checker._idle is None
