"""The registration sample: its graph is the one that was asked for, its worker does each task, its stub forgets nothing."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from tests.support.exchange import PYTHON, SAMPLES

from mainstay.api.jobbatch import JobBatchSpec
from mainstay.api.phasedjob import UserAction
from mainstay.api.strategyrun import StrategyRunSpec
from mainstay.core.answers import answer
from mainstay.core.expressions import evaluate
from mainstay.core.inputs import inputs_of
from mainstay.core.job.check import problems
from mainstay.core.job.graph import Graph

HERE = SAMPLES / "registration"
PASSWORD = "correct-horse-battery"
BATCH = yaml.safe_load((HERE / "batch.yaml").read_text())
SPEC = JobBatchSpec.model_validate(BATCH["spec"])
GRAPH = Graph.of(SPEC.template)
ACTIONS = GRAPH.actions
ANSWERS = yaml.safe_load((HERE / "answers" / "answers.yaml").read_text())["spec"]["inputs"]
ALL = "inputs.configuration.stepsEnabled."

PHASES = {
    "phase1": {
        # task: (blocking, depends on)
        "cloudwaitressAccount": (True, []),
        "codeGeneration": (False, []),
        "createOnboardingUser": (False, []),
        "uploadImages": (False, []),
    },
    "phase2": {
        "restaurantRegistration": (True, []),
        "websiteConfig": (False, ["codeGeneration"]),
        "servicesConfig": (False, ["restaurantRegistration"]),
        "paymentConfig": (False, ["restaurantRegistration"]),
        "menuImport": (False, []),
        "syncOnboardingUser": (False, ["createOnboardingUser"]),
    },
    "phase3": {"optionSets": (True, ["menuImport"])},
    "phase4": {"itemTags": (True, ["menuImport"])},
}
SUBSTEPS = [name for tasks in PHASES.values() for name in tasks]


# --- the manifests


def test_the_manifests_say_only_what_the_api_knows():
    assert SPEC.model_dump(mode="json", by_alias=True, exclude_unset=True) == BATCH["spec"]
    stub = yaml.safe_load((HERE / "stub.yaml").read_text())["spec"]
    run = StrategyRunSpec.model_validate(stub)
    assert run.model_dump(mode="json", by_alias=True, exclude_unset=True) == stub
    assert inputs_of(run, {}).problem is None
    assert SPEC.template.inputs["service"] == f"http://127.0.0.1:{run.control_api.port}"


def test_the_operator_finds_nothing_wrong():
    assert list(problems(SPEC.template, GRAPH)) == []


def test_six_steps():
    kinds = [(s.name, "task" if s.task else "action" if s.action else "phases") for s in SPEC.template.steps]
    assert kinds == [
        ("extraction", "task"),
        ("contactSearch", "task"),
        ("companySelection", "action"),
        ("detailsExtraction", "task"),
        ("configuration", "action"),
        ("accountSetup", "phases"),
    ]


def test_four_phases_and_twelve_sub_steps():
    found = {
        phase.name: {task.name: (task.blocking, task.depends_on) for task in phase.tasks}
        for phase in GRAPH.phases["accountSetup"]
    }
    assert found == PHASES
    assert len(SUBSTEPS) == 12


def test_each_task_runs_its_own_program_with_a_timeout():
    for name, task in GRAPH.tasks.items():
        assert task.program.command == ["python3", "worker.py", name]
        assert task.program.working_dir == "samples/registration"
        assert task.timeout_seconds


def skipped(configuration):
    """What a job with this configuration leaves out."""
    gone = []
    for name in SUBSTEPS:
        task = GRAPH.tasks[name]
        wanted = evaluate(task.when, {"inputs": {"configuration": configuration}})
        if not wanted or set(gone) & set(task.depends_on):
            gone.append(name)
    return set(gone)


AFTER_MENU = {"optionSets", "itemTags"}
WISHES = {
    "everything": ({}, set()),
    "no menu is selected": ({"menu": {"id": None}}, {"uploadImages", "menuImport"} | AFTER_MENU),
    "no images": ({"menu": {"images": False}}, {"uploadImages"}),
    "no option sets": ({"menu": {"optionSets": False}}, {"optionSets"}),
    "no item tags": ({"menu": {"itemTags": False}}, {"itemTags"}),
    "no onboarding user": (
        {"onboarding": {"createUser": False}},
        {"createOnboardingUser", "syncOnboardingUser"},
    ),
    "no record": ({"onboarding": {"syncRecord": False}}, {"syncOnboardingUser"}),
    "an account that exists": ({"account": {"register": False}}, set()),
}
TAKES_ALONG = {
    "codeGeneration": {"websiteConfig"},
    "createOnboardingUser": {"syncOnboardingUser"},
    "restaurantRegistration": {"servicesConfig", "paymentConfig"},
    "menuImport": AFTER_MENU,
}
WISHES |= {
    f"{name} is switched off": ({"stepsEnabled": {name: False}}, {name} | TAKES_ALONG.get(name, set()))
    for name in SUBSTEPS
}


@pytest.mark.parametrize(("change", "left_out"), WISHES.values(), ids=WISHES)
def test_what_is_wanted(change, left_out):
    configuration = deepcopy(ANSWERS["configuration"])
    for part, values in change.items():
        configuration[part] |= values
        configuration[part] = {k: v for k, v in configuration[part].items() if v is not None}
    assert answer(ACTIONS["configuration"], "configuration", {"configuration": configuration}).fits
    assert skipped(configuration) == left_out


# --- the answers


def test_the_answers_fit_and_are_the_same_in_both_forms():
    assert ANSWERS.keys() == ACTIONS.keys()
    for name, action in ACTIONS.items():
        assert yaml.safe_load((HERE / "answers" / f"{name}.yaml").read_text()) == ANSWERS[name]
        assert answer(action, name, ANSWERS).fits
    secret = yaml.safe_load((HERE / "secrets.yaml").read_text())
    ref = ANSWERS["configuration"]["password"]["secretKeyRef"]
    assert ref["name"] == secret["metadata"]["name"]
    assert ref["key"] in secret["stringData"]


def test_the_answer_without_a_password_is_the_same_but_for_it():
    given = yaml.safe_load((HERE / "answers" / "configuration-without-password.yaml").read_text())
    assert given | {"password": ANSWERS["configuration"]["password"]} == ANSWERS["configuration"]
    assert "password" not in given


BAD_ANSWERS = {
    "a word for a number": ("companySelection", {"companyNumber": "ten"}, "companyNumber"),
    "too short": ("companySelection", {"companyNumber": "1020304"}, "companyNumber"),
    "nothing": ("companySelection", {}, "companyNumber"),
    "a literal password": ("configuration", {"password": PASSWORD}, "password is a secret"),
    "no e-mail": ("configuration", {"account": {"register": True, "email": "owner"}}, "email"),
    "a sub-step unsaid": ("configuration", {"stepsEnabled": {"menuImport": True}}, "stepsEnabled"),
    "a sub-step unknown": (
        "configuration",
        {"stepsEnabled": dict.fromkeys([*SUBSTEPS, "menuExport"], True)},
        "stepsEnabled",
    ),
}


@pytest.mark.parametrize(("name", "change", "told"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_answer_that_does_not_fit(name, change, told):
    given = {name: {**ANSWERS[name], **change} if change else {}}
    problem = answer(ACTIONS[name], name, given).problem
    assert told in problem
    assert PASSWORD not in problem


def test_the_sample_is_in_the_readme():
    assert "(registration/batch.yaml)" in (SAMPLES / "README.md").read_text()


# --- programs


class Stub:
    """A running stub and what it says."""

    def __init__(self, directory: Path, config: dict | None = None) -> None:
        command = [*PYTHON, str(HERE / "stub.py"), "--control-api-port=0", f"--data-dir={directory}"]
        if config is not None:
            (directory / "config.json").write_text(json.dumps(config))
            command.append(f"--config={directory / 'config.json'}")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory
        )
        self.url = self.process.stdout.readline().split()[-1]

    def ask(self, path, body=None, method=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def get(self, path):
        return self.ask(path)[1]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@contextmanager
def running(directory, config=None):
    stub = Stub(directory, config)
    try:
        yield stub
    finally:
        if stub.process.poll() is None:
            stub.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A stub for tests that use their own job."""
    with running(tmp_path_factory.mktemp("stub")) as stub:
        yield stub


class Player:
    """Plays the operator for one job: task after task, outputs kept as context."""

    def __init__(self, directory: Path, service: str, name: str, **inputs) -> None:
        self.directory = directory
        self.uid = f"uid-of-{name}"
        self.name = name
        entry = next(job for job in SPEC.jobs if job.name == "a")
        self.inputs = deepcopy({**SPEC.template.inputs, **entry.inputs, **ANSWERS, "service": service})
        self.inputs["configuration"]["password"] = PASSWORD
        self.inputs |= inputs
        self.context: dict = {}
        self.said = ""

    def attempt(self, task, number=1, env=None):
        """Exit status of one attempt; outputs of one that ended well are in the context."""
        data = self.directory / task
        data.mkdir(exist_ok=True)
        given = {
            "job": {"name": self.name, "namespace": "default", "uid": self.uid},
            "task": {"name": task, "attempt": number},
            "inputs": self.inputs,
            "context": self.context,
        }
        (data / "inputs.json").write_text(json.dumps(given))
        paths = {"INPUTS_PATH": data / "inputs.json", "OUTPUTS_PATH": data / "outputs.json", "DATA_DIR": data}
        done = subprocess.run(
            [*PYTHON, str(HERE / "worker.py"), task],
            env={"PATH": os.environ["PATH"], **{k: str(v) for k, v in paths.items()}, **(env or {})},
            capture_output=True,
            text=True,
            cwd=data,
            check=False,
            timeout=20,
        )
        self.said = done.stderr
        assert done.stdout == ""
        if done.returncode == 0:
            self.context[task] = json.loads((data / "outputs.json").read_text())
        return done.returncode

    def play(self, *tasks):
        for task in tasks:
            assert self.attempt(task) == 0, self.said
        return self


@pytest.fixture
def player(tmp_path, shared, request):
    return Player(tmp_path, shared.url, request.node.name.translate(str.maketrans(" []", "-..")))


MADE = {
    "extraction": {"address", "phone", "menus"},
    "contactSearch": {"contacts", "companies", "contact"},
    "detailsExtraction": {"vatNumber", "registeredAddress", "openingHours"},
    "cloudwaitressAccount": {"accountId", "accountCreated"},
    "codeGeneration": {"filePaths"},
    "createOnboardingUser": {"userId", "userCreated"},
    "uploadImages": {"urls"},
    "restaurantRegistration": {"restaurantId"},
    "websiteConfig": {"site", "published"},
    "servicesConfig": {"services"},
    "paymentConfig": {"payments"},
    "menuImport": {"menuId", "menuImported", "items", "withPicture"},
    "syncOnboardingUser": {"synced"},
    "optionSets": {"optionSets"},
    "itemTags": {"tagged"},
}
USES = {
    "detailsExtraction": {"contactSearch"},
    "codeGeneration": {"extraction"},
    "createOnboardingUser": {"contactSearch"},
    "uploadImages": {"extraction"},
    "restaurantRegistration": {"detailsExtraction", "cloudwaitressAccount"},
    "websiteConfig": {"codeGeneration"},
    "servicesConfig": {"restaurantRegistration", "detailsExtraction"},
    "paymentConfig": {"restaurantRegistration", "detailsExtraction"},
    "menuImport": {"extraction", "uploadImages"},
    "syncOnboardingUser": {"createOnboardingUser", "contactSearch"},
    "optionSets": {"menuImport"},
    "itemTags": {"menuImport"},
}


def test_every_task_once_with_the_outputs_of_its_own_job(player, shared):
    player.play(*GRAPH.tasks)
    assert {task: set(made) - {"receipt"} for task, made in player.context.items()} == MADE
    assert PASSWORD not in json.dumps(player.context)
    calls = shared.get(f"/ledger?job={player.name}")
    assert PASSWORD not in json.dumps(calls)
    assert {c["task"]: set(c["uses"]) for c in calls if c["uses"]} == USES
    assert all(c["uses"][used] == player.context[used]["receipt"] for c in calls for used in c["uses"])
    once = {"completed": 1, "repeated": 0, "failed": 0, "refused": 0, "attempts": [1]}
    assert shared.get(f"/ledger/summary?job={player.name}") == {
        player.uid: {"job": player.name, "tasks": dict.fromkeys(GRAPH.tasks, once)}
    }
    published = player.context["websiteConfig"]["published"]
    assert published == [os.path.basename(path) for path in player.context["codeGeneration"]["filePaths"]]


def test_answers_are_the_same_for_the_same_job(tmp_path, shared):
    contexts = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        contexts.append(Player(tmp_path / name, shared.url, name).play("extraction", "contactSearch").context)
    receipts = [[made.pop("receipt") for made in context.values()] for context in contexts]
    assert contexts[0] == contexts[1]
    assert not set(receipts[0]) & set(receipts[1])


def test_an_ambiguous_contact_asks(player):
    del player.inputs["restaurant"]["contact"]
    player.play("contactSearch")
    asks = UserAction.model_validate(player.context["contactSearch"].pop("actionRequired"))
    people = player.context["contactSearch"]["contacts"]
    assert len(people) == 2
    assert "contact" not in player.context["contactSearch"]
    assert not answer(asks, "contactSearch", {"contactSearch": {"contact": "Somebody"}}).fits
    player.inputs["contactSearch"] = {"contact": people[1]}
    assert answer(asks, "contactSearch", player.inputs).fits
    player.play("detailsExtraction", "createOnboardingUser", "syncOnboardingUser")


def test_without_an_account_and_images(player):
    """Sub-steps that were switched off are no reason to fail for those that follow."""
    player.play("extraction", "contactSearch", "detailsExtraction", "restaurantRegistration", "menuImport")
    assert player.context["menuImport"]["withPicture"] == 0


def test_a_short_password_is_refused_and_not_told(player):
    player.inputs["configuration"]["password"] = "owner"  # it is a part of the e-mail, too
    assert player.attempt("cloudwaitressAccount") == 1
    assert "answered 401: the password for ***@restaurant.example was refused" in player.said
    player.inputs["configuration"]["password"] = PASSWORD
    assert player.attempt("cloudwaitressAccount", 2) == 0


def test_a_context_of_another_job_is_refused(player, tmp_path, shared):
    (tmp_path / "other").mkdir()
    other = Player(tmp_path / "other", shared.url, "another").play("extraction")
    player.context = other.context
    assert player.attempt("codeGeneration") == 1
    assert "answered 409" in player.said
    assert "is no receipt of this job's extraction" in player.said


# --- what goes wrong

WRONG = {
    "no service": ({"service": ""}, "menuImport", "no service: set inputs.service"),
    "nobody listens": ({"service": "http://127.0.0.1:1"}, "extraction", "no answer from http://127.0.0.1:1"),
    "no restaurant": ({"restaurant": {}}, "extraction", "'name' is missing"),
    "no context": ({}, "optionSets", "needs menuId of menuImport, which is not in the context"),
    "an empty value": ({"restaurant": {"name": "", "website": "x"}}, "extraction", "422: missing: name"),
}


@pytest.mark.parametrize(("inputs", "task", "told"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_clear_line(player, inputs, task, told):
    player.play("extraction")
    player.inputs |= inputs
    assert player.attempt(task) == 1
    assert player.said.startswith(f"{task}: ")
    assert told in player.said
    assert player.said.count("\n") == 1
    assert PASSWORD not in player.said


def test_a_menu_that_is_not_there(player):
    player.play("extraction")
    player.inputs["configuration"]["menu"]["id"] = "brunch"
    assert player.attempt("menuImport") == 1
    assert player.said == "menuImport: no menu 'brunch' on the website, only lunch, dinner\n"


def test_the_service_may_be_named_in_the_environment(player, shared):
    del player.inputs["service"]
    assert player.attempt("extraction", env={"SERVICE_URL": shared.url}) == 0


@pytest.mark.parametrize("words", [[], ["brunch"], ["extraction", "too"]])
def test_usage(words):
    done = subprocess.run(
        [*PYTHON, str(HERE / "worker.py"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "usage: worker.py TASK, one of extraction, " in done.stderr


def test_inputs_that_are_none(tmp_path):
    (tmp_path / "inputs.json").write_text("{")
    env = {"INPUTS_PATH": str(tmp_path / "inputs.json"), "OUTPUTS_PATH": str(tmp_path / "outputs.json")}
    command = [*PYTHON, str(HERE / "worker.py"), "extraction"]
    for more in (env, {}):
        done = subprocess.run(command, env=more, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("extraction: ")
        assert done.stderr.count("\n") == 1


# --- faults

FAULTS = {
    "the default": ({}, "answered 503: extraction is told to fail"),
    "a status": ({"status": 500}, "answered 500"),
    "no answer": ({"kind": "disconnect"}, "no answer from"),
    "no JSON": ({"kind": "garbage"}, "answered 200 with no JSON object"),
    "an answer that is lost": ({"kind": "lostAnswer"}, "no answer from"),
}


@pytest.mark.parametrize(("fault", "told"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_used_up(player, shared, fault, told):
    code, made = shared.ask("/faults", {"task": "extraction", "job": player.name, "times": 2, **fault})
    assert code == 200
    for number in (1, 2):
        assert player.attempt("extraction", number) == 1
        assert told in player.said
    assert player.attempt("extraction", 3) == 0, player.said
    assert made["id"] not in [left["id"] for left in shared.get("/faults")]
    counts = shared.get(f"/ledger/summary?job={player.name}")[player.uid]["tasks"]["extraction"]
    assert counts["attempts"] == [1, 2, 3]
    if fault.get("kind") == "lostAnswer":  # done once, whatever was heard of it
        assert (counts["completed"], counts["repeated"]) == (1, 2)
    else:
        assert (counts["completed"], counts["failed"]) == (1, 2)


def test_a_fault_of_another_job_or_task_is_not_used(player, shared):
    shared.ask("/faults", {"task": "extraction", "job": "nobody"})
    shared.ask("/faults", {"task": "contactSearch", "job": player.name})
    player.play("extraction")


def test_a_slow_answer_is_an_answer(player, shared):
    shared.ask("/faults", {"task": "extraction", "job": player.name, "delaySeconds": 0.3})
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(player.play, "extraction")
        assert shared.get("/health") == {"status": "ok"}  # others are served meanwhile
        slow.result(10)


BAD_FAULTS = {
    "no task": {},
    "an unknown task": {"task": "brunch"},
    "an unknown kind": {"task": "menuImport", "kind": "quiet"},
    "an unknown field": {"task": "menuImport", "often": 3},
    "a status of success": {"task": "menuImport", "status": 200},
    "half a time": {"task": "menuImport", "times": 0.5},
    "a delay that is none": {"task": "menuImport", "delaySeconds": "long"},
}


@pytest.mark.parametrize("fault", BAD_FAULTS.values(), ids=BAD_FAULTS)
def test_what_is_no_fault(shared, fault):
    code, told = shared.ask("/faults", fault)
    assert code == 400
    assert told["error"].startswith("malformed request: ")


# --- the stub


def test_it_survives_a_kill(tmp_path):
    (tmp_path / "state").mkdir()
    config = {"faults": [{"task": "extraction"}]}
    with running(tmp_path / "state", config) as stub:
        player = Player(tmp_path, stub.url, "survivor")
        assert player.attempt("extraction", 1) == 1
        player.play("extraction", "contactSearch")
        stub.ask("/faults", {"task": "detailsExtraction"})
        before = stub.get("/ledger")
        assert stub.end(signal.SIGKILL) == -signal.SIGKILL
    with (tmp_path / "state" / "ledger.jsonl").open("a") as file:
        file.write('{"number": 4, "jo')  # as after a power cut
    with running(tmp_path / "state", config) as stub:
        assert stub.get("/ledger") == before
        player.inputs["service"] = stub.url
        assert player.attempt("extraction", 2) == 0, "the fault of its configuration is used up"
        assert player.attempt("detailsExtraction") == 1, "the other one is not"
        player.play("detailsExtraction")
        results = [(call["task"], call["result"]) for call in stub.get("/ledger")[len(before) :]]
        assert results == [
            ("extraction", "repeated"),
            ("detailsExtraction", "failed"),
            ("detailsExtraction", "completed"),
        ]
        assert stub.end() == 0
    assert PASSWORD not in (tmp_path / "state" / "ledger.jsonl").read_text()


def test_faults_can_be_forgotten(tmp_path):
    with running(tmp_path, {"delaySeconds": 0.01, "faults": [{"task": "extraction", "times": 9}]}) as stub:
        assert [fault["times"] for fault in stub.get("/faults")] == [9]
        assert stub.ask("/faults", method="DELETE") == (200, [])
        assert stub.get("/faults") == []


@pytest.mark.parametrize(
    ("config", "told"),
    [({"faults": [{}]}, "a fault has a task"), ({"delaySeconds": "long"}, "float"), ([], "attribute")],
)
def test_a_bad_configuration_is_told(tmp_path, config, told):
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, HERE / "stub.py", "--control-api-port=0", "--config=config.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("stub: ")
    assert told in done.stderr


def test_requests_that_are_none(shared):
    assert shared.ask("/brunch")[0] == 404
    assert shared.ask("/brunch", {})[0] == 404
    assert shared.ask("/extraction", {})[0] == 400
    assert shared.ask("/extraction", [])[0] == 400
    assert shared.ask("/ledger", method="DELETE")[0] == 404
    assert shared.ask("/faults", {"task": "extraction"}, Origin="https://evil.example")[0] == 403
    assert shared.ask("/faults", {"task": "extraction"}, Host="evil.example")[0] == 403
