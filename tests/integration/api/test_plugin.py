"""kubectl calls the plugin by its name, with its own cluster and namespace, and completes it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.integration.api.client import NAMESPACE, Api, run
from tests.support.plane import RealPlane

SCRIPTS = Path(sys.executable).parent
NAMES = ("kubectl-mainstay", "kubectl_complete-mainstay")


class Shell:
    """A shell of a user whose kubectl has the plugin, and whose context names a namespace."""

    def __init__(self, plane: RealPlane, directory: Path) -> None:
        self.kubectl = str(plane.binaries.kubectl)
        bin_ = directory / "bin"
        bin_.mkdir()
        for name in NAMES:
            (bin_ / name).symlink_to(SCRIPTS / name)
        (bin_ / "kubectl").symlink_to(self.kubectl)
        config = yaml.safe_load(plane.kubeconfig.read_text())
        config["contexts"][0]["context"]["namespace"] = NAMESPACE
        default = {"name": "plain", "context": {**config["contexts"][0]["context"], "namespace": "default"}}
        config["contexts"].append(default)
        (directory / "config").write_text(yaml.safe_dump(config))
        self.env = {
            "PATH": f"{bin_}:/usr/bin:/bin",
            "HOME": str(directory),
            "KUBECONFIG": str(directory / "config"),
            "LANG": "C.UTF-8",
            "MAINSTAY_COMPLETION_SECONDS": "20",
        }

    def __call__(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.kubectl, *words], env={**self.env, **env}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    def complete(self, *words: str) -> list[str]:
        *found, directive = self("__complete", "mainstay", *words).stdout.splitlines()
        assert directive.startswith(":")
        return [one.partition("\t")[0] for one in found]


@pytest.fixture(scope="module")
def shell(plane: RealPlane) -> Iterator[Shell]:
    if not all((SCRIPTS / name).exists() for name in NAMES):
        pytest.skip("the package is not installed")
    with tempfile.TemporaryDirectory(prefix="ms-sh-") as directory:  # a home's path is short
        yield Shell(plane, Path(directory))


def test_cluster_and_namespace_are_those_of_the_context(api: Api, shell: Shell) -> None:
    api.create(run("bot")).ok()
    told = json.loads(shell("mainstay", "status", "bot", "-o", "json").stdout)
    assert told["metadata"]["namespace"] == NAMESPACE
    missing = shell("mainstay", "status", "bot", "--context", "plain", code=1).stderr
    assert 'no StrategyRun "bot" in namespace default. `kubectl mainstay status`' in missing
    assert "bot" in shell("mainstay", "status", "bot", "--context", "plain", "-n", NAMESPACE).stdout


def test_lists_are_of_the_cluster_that_kubectl_talks_to(api: Api, shell: Shell) -> None:
    api.create(run("bot")).ok()
    for options in ((), ("-n", NAMESPACE), ("-A",)):
        told = shell("mainstay", "status", *options).stdout
        assert "bot" in told, options
        assert "PART" not in told, "nothing of Mainstay is on this machine"
    assert "no runs" in shell("mainstay", "status", "-n", "default").stdout
    assert "POOL" in shell("mainstay", "ports", "-A").stdout
    checked = shell("mainstay", "doctor").stdout
    assert "✓ the control plane answers" in checked
    assert "- nothing of Mainstay is on this machine" in checked


def test_a_verb_changes_the_object(api: Api, shell: Shell) -> None:
    api.create(run("bot")).ok()
    shell("mainstay", "pause", "bot", "--no-wait")
    assert json.loads(shell("get", "srun", "bot", "-o", "json").stdout)["spec"]["state"] == "Paused"


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["stauts"], 2, "No such command 'stauts'"),
        (["status", "--nix"], 2, "No such option"),
        (["up"], 2, "Say: mainstay up"),
        (["-n", "x", "status"], 2, "kubectl mainstay status -n x"),
        (["stop", "nobody"], 1, 'no StrategyRun "nobody"'),
        (["logs", "nobody"], 1, 'no StrategyRun "nobody"'),
    ],
)
def test_exit_codes(shell: Shell, words: list[str], code: int, says: str) -> None:
    told = shell("mainstay", *words, code=code).stderr
    assert says in " ".join(told.split())
    assert "Traceback" not in told


def test_help_is_kubectls(shell: Shell) -> None:
    assert "Usage: kubectl mainstay [OPTIONS]" in shell("mainstay", "-h").stdout
    assert "Usage: kubectl mainstay stop" in shell("mainstay", "stop", "-h").stdout


def test_kubectl_completes_verbs_options_and_names(api: Api, shell: Shell) -> None:
    api.create(run("bot")).ok()
    api.create(run("bear")).ok()
    assert shell.complete("sta") == ["start", "status"]
    assert "--follow" in shell.complete("logs", "--fo")
    assert shell.complete("status", "") == ["bear", "bot"]
    assert shell.complete("stop", "bo") == ["bot"]
    assert shell.complete("stop", "bot", "") == ["bear"]
    assert shell.complete("stop", "--context", "plain", "") == []
    assert shell.complete("stop", "-n", "api-") == [NAMESPACE]
    assert "plain" in shell.complete("stop", "--context", "")


def test_completion_is_silent_and_quick_when_the_cluster_is_away(shell: Shell, tmp_path: Path) -> None:
    config = yaml.safe_load(Path(shell.env["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "away"
    away.write_text(yaml.safe_dump(config))
    env = {**shell.env, "KUBECONFIG": str(away), "MAINSTAY_COMPLETION_SECONDS": "0.4"}
    shell.complete("sta")  # verbs are known from now on
    began = time.monotonic()
    done = subprocess.run([str(SCRIPTS / NAMES[1]), "status", ""], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, ":4\n", "")
    assert time.monotonic() - began < 5, "half a second on a quiet machine"
