"""Whatever a person writes reaches the program unchanged, or is refused in words; and harms nobody else."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from tests.contract.harness import ProcessHarness, eventually

from mainstay.api.program import Limits, RestartPolicyType
from mainstay.runtime.base import UnitRefusedError, UnitState
from mainstay.runtime.process import ProcessRuntime, proc

BOT = "default.bot"
PYTHON = os.path.realpath(sys.executable)
TELL = (
    "import json,os,sys,time,resource;"
    "json.dump({'argv': sys.argv[1:], 'env': dict(os.environ), 'cwd': os.getcwd(), 'uid': os.getuid(),"
    "'umask': os.umask(0), 'nice': os.getpriority(os.PRIO_PROCESS, 0),"
    "'files': resource.getrlimit(resource.RLIMIT_NOFILE)[0], 'groups': os.getgroups(),"
    "'config': open(os.environ['CONFIG_PATH'], 'rb').read().decode() if 'CONFIG_PATH' in os.environ else None},"
    "open('told.tmp', 'w')); os.rename('told.tmp', 'told'); time.sleep(1000)"
)
TEXTS = [
    "a\nb",
    "a\rb",
    "a\r\n[program:evil]\ncommand=/bin/true",
    "100%",
    "%(here)s %(X)s %%",
    "a ;b #c",
    "'\"`\\",
    "]",
    "$(id) $HOME ${HOME} `id`",
    "",
    " ",
    "ünï\u2028cödé 🚢",
    "\udcff",
    "x" * 100_000,
]


async def told(place, **more):
    await place.runtime.start(place.spec(**{"argv": (PYTHON, "-c", TELL), **more}))
    path = place.unit_path(BOT) / "data/told"
    await eventually(path.exists)
    return json.loads(path.read_text())


async def test_arguments_and_variables_arrive_unchanged(place):
    env = {f"TEXT_{index}": text for index, text in enumerate(TEXTS)}
    seen = await told(place, argv=(PYTHON, "-c", TELL, *TEXTS), env=env)
    assert seen["argv"] == TEXTS
    assert {name: seen["env"][name] for name in env} == env
    await place.running("default.second")


async def test_the_environment_is_clean_and_ours_wins(place, monkeypatch):
    monkeypatch.setenv("LEAKED", "secret")
    env = {"API_KEY": "k", "ATTEMPT": "99", "MAINSTAY_UNIT": "forged", "PATH": "/usr/bin"}
    seen = await told(place, env=env, port=18791, attempt=7, config=b"a: 1\n", config_name="config.yaml")
    assert seen["env"]["MAINSTAY_UNIT"] == f"h{place.home.name}/uid-1"
    unit = place.unit_path(BOT)
    expected = {
        "ATTEMPT": "7",
        "API_KEY": "k",
        "CONTROL_API_PORT": "18791",
        "CONFIG_PATH": str(unit / "config.yaml"),
        "DATA_DIR": str(unit / "data"),
        "MAINSTAY_NAME": f"runs/{BOT}",
        "PATH": "/usr/bin",
        "PYTHONUNBUFFERED": "1",
    }
    assert {name: seen["env"].get(name) for name in expected} == expected
    assert not {"LEAKED", "SUPERVISOR_ENABLED", "MAINSTAY_SCOPE", "MAINSTAY_NOFILE"} & seen["env"].keys()
    assert seen["cwd"] == str(unit / "data")
    assert seen["umask"] == 0o077
    assert seen["config"] == "a: 1\n"


async def test_names_in_arguments_are_expanded(place):
    argv = (PYTHON, "-c", TELL, "$(CONTROL_API_PORT)", "$(CONFIG_PATH)", "$(MINE)", "$$(MINE)", "$(NOT_SET)")
    seen = await told(place, argv=argv, env={"MINE": "$(ATTEMPT)"}, port=18791, config=b"")
    path = str(place.unit_path(BOT) / "config")
    assert seen["argv"] == ["18791", path, "$(ATTEMPT)", "$(MINE)", "$(NOT_SET)"]


async def test_process_settings(place):
    limits = Limits.model_validate({"openFiles": 77})
    (place.home / "work").mkdir()
    seen = await told(place, umask=0o022, nice=5, limits=limits)
    assert (seen["umask"], seen["nice"], seen["files"]) == (0o022, 5, 77)


async def test_files_are_private(place):
    await told(place, env={"API_KEY": "canary"}, config=b"canary")
    scope = place.home / "scopes/runs"
    for root, directories, files in os.walk(scope):
        for name in directories:
            assert stat.S_IMODE((Path(root) / name).stat().st_mode) & 0o077 == 0, name
        for name in files:
            if not name.endswith((".pyc", "told")):
                assert stat.S_IMODE((Path(root) / name).stat().st_mode) & 0o077 == 0, name
    told_to = [path for path in scope.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]
    assert sorted(path.name for path in told_to) == ["config", "spec", "told"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("no-such-program-x",), 127, "no such file in PATH"),
        (("/no/such/program",), 127, "no such file"),
        (("/etc/passwd",), 126, "not executable"),
        (("/tmp",), 126, "it is a directory"),
    ],
)
async def test_what_cannot_be_executed_says_so(place, argv, code, words):
    await place.runtime.start(place.spec(argv=argv, policy=RestartPolicyType.NEVER))
    gone = await place.until(BOT, UnitState.EXITED)
    assert gone.exit is not None
    assert gone.exit.code == code
    assert words in gone.exit.last_lines[-1]
    assert gone.exit.last_lines[-1].startswith("mainstay: cannot start")


async def test_a_missing_working_directory_says_so(place):
    await place.runtime.start(place.spec(working_dir="/no/such", policy=RestartPolicyType.NEVER))
    gone = await place.until(BOT, UnitState.EXITED)
    assert gone.exit is not None
    assert gone.exit.code == 126
    assert "working directory /no/such" in gone.exit.last_lines[-1]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"working_dir": "../.."}, "WorkingDirRefused"),
        ({"working_dir": "a/../../b"}, "WorkingDirRefused"),
        ({"user": "no-such-user-x"}, "UserUnknown"),
        ({"argv": ("a\0b",)}, "InvalidArgument"),
        ({"env": {"A": "a\0b"}}, "InvalidArgument"),
        ({"argv": ()}, "InvalidArgument"),
        ({"argv": ("",)}, "InvalidArgument"),
        ({"argv": ("x" * 200_000,)}, "ArgumentsTooLong"),
        ({"argv": ("x" * 100_000,) * 20}, "ArgumentsTooLong"),
        ({"name": "../evil"}, "InvalidName"),
        ({"name": "a/b"}, "InvalidName"),
        ({"name": "a]\nb"}, "InvalidName"),
        ({"name": ".hidden"}, "InvalidName"),
        ({"config": b"", "config_name": "../run"}, "InvalidArgument"),
    ],
)
async def test_refusals(place, more, reason):
    name = more.pop("name", BOT)
    with pytest.raises(UnitRefusedError) as refused:
        await place.runtime.start(place.spec(name, **more))
    assert refused.value.reason == reason
    assert await place.runtime.units() == []
    await place.running("default.second")


async def test_only_root_may_choose_a_user(place, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UnitRefusedError) as refused:
        await place.runtime.start(place.spec(user="root"))
    assert refused.value.reason == "UserNotPermitted"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_another_user(place):
    os.chmod(place.home, 0o711)
    os.chmod(place.home / "scopes", 0o711)
    nobody = pwd.getpwnam("nobody")
    seen = await told(place, argv=("/usr/bin/env", "python3", "-c", TELL), user="nobody", config=b"secret",
                      env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    assert seen["uid"] == nobody.pw_uid
    assert 0 not in seen["groups"]
    assert seen["config"] == "secret"
    assert (seen["env"]["USER"], seen["env"]["HOME"]) == ("nobody", nobody.pw_dir)
    assert (place.unit_path(BOT) / "spec").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_memory_limit_is_enforced_or_refused(place):
    limits = Limits.model_validate({"memory": "64Mi", "cpu": "500m"})
    code = "x = bytearray(200 << 20)\nimport time\ntime.sleep(1000)"
    spec = place.spec(argv=(PYTHON, "-c", code), limits=limits, policy=RestartPolicyType.NEVER)
    try:
        await place.runtime.start(spec)
    except UnitRefusedError as refused:
        assert refused.reason == "LimitUnsupported"  # noqa: PT017
        return
    gone = await place.until(BOT, UnitState.EXITED)
    assert gone.exit is not None
    assert gone.exit.signal == 9
    await place.runtime.remove(BOT, "uid-1")


async def test_a_home_with_strange_characters():
    base = tempfile.mkdtemp(prefix="ms")
    harness = ProcessHarness()
    shutil.rmtree(harness.home)
    harness.home = Path(base) / "a b%(x)s;'\"#"
    harness.runtime = ProcessRuntime(harness.home, "runs", home_id="strange")
    await harness.open()
    try:
        first = await harness.running()
        await harness.kill_leader(BOT)
        await eventually(lambda: proc.look(first.leader) is None)
        await harness.until(BOT, UnitState.RUNNING)
    finally:
        await harness.close()
        shutil.rmtree(base)


async def test_a_home_that_is_too_long_says_so():
    runtime = ProcessRuntime(Path("/tmp") / ("x" * 90), "runs", home_id="h")
    with pytest.raises(Exception, match="MAINSTAY_HOME"):
        await runtime.start_up()


async def test_where_each_programs_output_begins(place):
    loop = "echo out; echo err >&2; while ! [ -e go ]; do sleep 0.01; done; rm go; exit 3"
    await place.running(argv=("/bin/sh", "-c", loop))
    unit = place.runtime._dir.unit(BOT)
    await eventually(lambda: os.path.getsize(unit.stderr) == 4)
    (place.unit_path(BOT) / "data/go").touch()
    await eventually(lambda: os.path.getsize(unit.stderr) == 8)
    leader = unit.leader()
    assert (leader.output_before, leader.output_from) == (0, 4)
    assert (leader.errors_before, leader.errors_from) == (0, 4)
    seen = await place.runtime.observe(BOT)
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.last_lines) == (3, ("err",))
