"""Called by kubectl: its name, its cluster and namespace, and what it completes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from unittest import mock

import pytest
import typer
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import called, complete, main
from mainstay.cli.app import app
from mainstay.cli.cluster import Target
from mainstay.cli.home import Home
from mainstay.shell.kube import RUNS, Kube


def kubeconfig(path: Path, current: str = "", **contexts: dict[str, str]) -> Path:
    """A kubeconfig whose contexts have a server each."""
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": current,
                "clusters": [{"name": n, "cluster": {"server": c["server"]}} for n, c in contexts.items()],
                "contexts": [
                    {"name": n, "context": {"cluster": n, **{k: v for k, v in c.items() if k == "namespace"}}}
                    for n, c in contexts.items()
                ],
            }
        )
    )
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path / "h"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = Home(tmp_path / "h")
    place.identity()
    return place


@pytest.fixture
def plugin(monkeypatch, home) -> Home:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/kubectl-mainstay"])
    return home


def invoke(*arguments: str):
    with mock.patch("typer.testing._get_command", return_value=main.command()):
        return CliRunner().invoke(app, list(arguments), prog_name=called.me())


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("`mainstay logs x`", "`kubectl mainstay logs x`"),
        ("\n  mainstay stop --offline   works", "\n  kubectl mainstay stop --offline   works"),
        ("`mainstay up` starts it", "`mainstay up` starts it"),
        ("kubectl mainstay logs x", "kubectl mainstay logs x"),
        ("mainstay below ~/.local/state", "mainstay below ~/.local/state"),
        ("bin/mainstay logs", "bin/mainstay logs"),
    ],
)
def test_commands_are_said_as_kubectl_takes_them(words, said):
    assert called.spoken(words) == said
    assert Target(Home(Path("/x")), "b").say("logs a") == "kubectl mainstay logs a -n b"


@pytest.mark.usefixtures("home")
def test_without_kubectl_nothing_changes():
    assert called.me() == "mainstay"
    assert called.spoken("`mainstay logs x`") == "`mainstay logs x`"
    assert "up" in main.command().commands


@pytest.mark.usefixtures("plugin")
def test_every_help_has_the_name_and_no_command_of_this_machine():
    told = invoke("-h").output
    assert "Usage: kubectl mainstay" in told
    assert "Exit codes" in told
    assert "source <(kubectl completion bash)" in " ".join(told.split())
    tree = main.command()
    assert not set(called.MACHINE) & set(tree.commands)
    for verb in tree.commands:
        told = invoke(verb, "-h").output
        assert f"kubectl mainstay {verb}" in told, told
        assert not re.search(rf"(?<!kubectl )mainstay {verb}\b", told), told


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up"], "mainstay up"),
        (["-n", "x", "logs", "a"], "kubectl mainstay logs a -n x"),
        (["--context=c"], "kubectl mainstay VERB --context=c"),
        (["nix"], "No such command 'nix'"),
        (["get"], "kubectl get stack"),
        (["delete", "x"], "kubectl delete srun"),
        (["history"], "kubectl get srestart"),
        (["reload"], "`kubectl mainstay restart stack/NAME` restarts"),
    ],
)
def test_wrong_usage_is_exit_code_2(monkeypatch, capsys, arguments, says):
    monkeypatch.setattr(sys, "argv", [*sys.argv, *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("plugin")
def test_hints_of_errors_have_the_name(monkeypatch):
    monkeypatch.setattr(Kube, "connect", Cluster().connect)
    result = invoke("stop", "nobody")
    assert result.exit_code == 1
    assert "`kubectl mainstay status` lists" in result.output


def test_the_namespace_is_that_of_the_context(plugin, monkeypatch):
    one = kubeconfig(plugin.root / "one", "a", a={"server": "https://a", "namespace": "of-a"})
    two = kubeconfig(
        plugin.root / "two", "b", a={"server": "https://no"}, b={"server": "https://b", "namespace": "of-b"}
    )
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}:/nowhere")
    cluster = Cluster()
    for namespace in ("of-a", "of-b", "said"):
        cluster.add(RUNS, f"in-{namespace}", {"program": {"command": ["x"]}}, namespace)
    monkeypatch.setattr(Kube, "connect", cluster.connect)
    for options, namespace in (
        ((), "of-a"),
        (("--context", "b"), "of-b"),
        (("--kubeconfig", str(two)), "of-b"),
        (("--context", "b", "-n", "said"), "said"),
    ):
        result = invoke("status", f"run/in-{namespace}", *options)
        assert result.exit_code == 0, result.output
    assert called.namespace(None, "none-such") == "default"


def test_this_home_is_meant_where_kubectl_talks_to_its_cluster(plugin, monkeypatch):
    kubeconfig(plugin.kubeconfig, "mainstay", mainstay={"server": "https://127.0.0.1:1"})
    other = kubeconfig(
        plugin.root / "other", "o", o={"server": "https://o"}, same={"server": "https://127.0.0.1:1"}
    )
    monkeypatch.setenv("KUBECONFIG", str(other))
    assert not Target(plugin).here
    assert Target(plugin).config_file is None, "kubectl's own"
    assert Target(plugin, context="same").here
    monkeypatch.setenv("KUBECONFIG", str(plugin.kubeconfig))
    assert Target(plugin).here
    monkeypatch.setattr(sys, "argv", ["mainstay"])
    monkeypatch.setenv("KUBECONFIG", str(other))
    assert Target(plugin).here
    assert Target(plugin).config_file == str(plugin.kubeconfig)


def test_programs_of_another_cluster_are_not_on_this_machine(plugin, monkeypatch):
    kubeconfig(plugin.kubeconfig, "mainstay", mainstay={"server": "https://127.0.0.1:1"})
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(plugin.root / "other", "o", o={"server": "https://o"})))
    for words in (("logs", "bot"), ("stop", "--offline", "--all"), ("release", "--all")):
        result = invoke(*words)
        assert result.exit_code == 1
        assert "you named another cluster" in result.output


# -- completion

KUBECTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *get-contexts*) echo one; echo two ;;
  *"get namespaces"*) echo namespace/default; echo namespace/dev ;;
  *jsonpath*) echo main_app db_poller ;;
  *) echo "strategyrun.mainstay.dev/bot   Running"; echo "servicestack.mainstay.dev/backend   Running 8/8"
     echo "asset.mainstay.dev/ship-1   Ship   Held" ;;
esac
"""


@pytest.fixture
def asked(home, monkeypatch) -> Path:
    bin_ = home.root / "bin"
    bin_.mkdir()
    (bin_ / "kubectl").write_text(KUBECTL.format(log=home.root / "asked"))
    (bin_ / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.root / "cache"))
    return home.root / "asked"


def names(*words: str) -> list[str]:
    return [one.partition("\t")[0] for one in complete.candidates(words)[0]]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["start", "status"]),
        (["u"], []),
        (["status", ""], ["bot", "backend", "asset/ship-1"]),
        (["restart", "b"], ["bot", "backend"]),
        (["restart", "bot", ""], ["backend"]),
        (["restart", "stack/backend", ""], ["bot"]),
        (["restart", "backend", ""], ["bot"]),
        (["restart", "st"], ["stack/backend"]),
        (["restart", "stack/backend/"], ["stack/backend/main_app", "stack/backend/db_poller"]),
        (["restart", "stack/backend/db_poller", "stack/backend/"], ["stack/backend/main_app"]),
        (["flush", ""], ["backend"]),
        (["stop", "stack/backend/"], []),
        (["status", "stack/"], ["stack/backend"]),
        (["status", "run/"], ["run/bot"]),
        (["logs", "stack/backend", "m"], ["main_app"]),
        (["logs", "bot", ""], []),
        (["status", "-n", "de"], ["default", "dev"]),
        (["status", "--namespace=dev"], ["--namespace=dev"]),
        (["status", "--context", "t"], ["two"]),
        (["status", "-o", ""], ["json", "yaml"]),
        (["assets", "-o", ""], ["json", "yaml", "wide"]),
        (["assets", "-o", "w"], ["wide"]),
        (["assets", ""], ["ship-1"]),
        (["assets", "asset/"], ["asset/ship-1"]),
        (["assets", "ship-1", ""], []),
        (["status", "asset/"], ["asset/ship-1"]),
        (["stop", "asset/"], []),
        (["restart", "backend", "--mode=q"], ["--mode=quick"]),
        (["logs", "--fo"], ["--follow"]),
        (["nix", ""], []),
    ],
)
def test_what_may_follow(words, offered):
    assert names(*words) == offered


def test_names_are_asked_for_where_they_were_typed(asked):
    names("start", "-n", "dev", "--context=c", "bot", "")
    told = asked.read_text()
    assert "--namespace=dev --context=c" in told
    assert "strategyrun.mainstay.dev,phasedjob.mainstay.dev" in told
    assert names("start", "bot", "") == ["backend"], "not the one that is there already"


@pytest.mark.usefixtures("asked")
def test_every_verb_and_option_is_known_and_kept(home):
    tree = typer.main.get_command(app)
    known = complete.tree()
    assert set(known) == {name for name, one in tree.commands.items() if not one.hidden}
    assert {"-n", "--namespace", "--help"} <= set(known["status"]["options"])
    kept = list((home.root / "cache/mainstay").glob("verbs-*.json"))
    assert len(kept) == 1
    kept[0].write_text('{"from-the-cache": {}}')
    assert set(complete.tree()) == {"from-the-cache"}
    assert set(complete._OF_VERB) - {"master", "full", "quick", "emergency", "force"} <= set(known) | {
        "flush"
    }


def test_silent_when_nothing_answers(asked, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    (asked.parent / "bin" / "kubectl").unlink()
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-mainstay", "status", ""])
    complete.main()
    assert capsys.readouterr().out == ":4\n"
