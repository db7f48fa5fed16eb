"""Every task of the registration sample: `python3 worker.py TASK`. Standard library only.

Mainstay gives a task one JSON file and takes one back:

    INPUTS_PATH    {"job": {"name", "uid"}, "task": {"name", "attempt"}, "inputs": spec.inputs with its secrets,
                    "context": {earlier task: its outputs}}
    OUTPUTS_PATH   an object: what later tasks find in their context. Never a secret: everybody may read it

Exit status 0 completes the task, for good. Anything else fails this attempt; the last lines of stderr say why.
Start reading at the end; each function above `main` is one task.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

ANSWER_SECONDS = 50  # less than timeoutSeconds of the tasks, so that the reason is told here
REQUIRED = object()


class Failure(Exception):  # noqa: N818 (this attempt's, told in one line)
    """Why this attempt ends."""


class Job:
    """What a task is given, and the way to the service."""

    def __init__(self, task: str, given: dict) -> None:
        self.task = task
        self.inputs: dict = given["inputs"]
        self._job = {key: given["job"][key] for key in ("name", "uid")}
        self._attempt = given["task"]["attempt"]
        self._context: dict = given["context"]
        self._uses: dict[str, str] = {}

    @property
    def restaurant(self) -> dict:
        """What the batch says of this job's restaurant."""
        return self.inputs["restaurant"]

    @property
    def configuration(self) -> dict:
        """What the user answered in step 5."""
        return self.inputs["configuration"]

    @property
    def secrets(self) -> list[str]:
        """What must never be printed."""
        password = self.inputs.get("configuration", {}).get("password")
        return [password] if password else []

    def output(self, task: str, name: str, default: object = REQUIRED) -> object:
        """Return an output of an earlier task, and show that task's receipt with the next call."""
        outputs = self._context.get(task, {})
        if name in outputs:
            self._uses[task] = outputs["receipt"]
            return outputs[name]
        if default is REQUIRED:
            raise Failure(f"needs {name} of {task}, which is not in the context")
        return default

    def call(self, **values: object) -> dict:
        """Have the service of this task do its work. Raises Failure."""
        url = self.inputs.get("service") or os.environ.get("SERVICE_URL")
        if not url:
            raise Failure("no service: set inputs.service, or SERVICE_URL, to its URL")
        request = {"job": self._job, "attempt": self._attempt, "uses": self._uses, "values": values}
        try:
            status, content = _post(url, self.task, json.dumps(request).encode())
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"no answer from {url}: {error or type(error).__name__}") from None
        try:
            answer = json.loads(content)
            reason = answer.get("error", "no reason given")
        except (AttributeError, ValueError):
            raise Failure(f"{url} answered {status} with no JSON object") from None
        if status != http.client.OK:
            raise Failure(f"{url} answered {status}: {reason}")
        return answer


def _post(url: str, task: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", f"/{task}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- steps 1, 2 and 4


def extraction(job: Job) -> dict:
    """Read the restaurant's website: address, phone, menus."""
    return job.call(name=job.restaurant["name"], website=job.restaurant["website"])


def contact_search(job: Job) -> dict:
    """Find the contact. Where more than one person fits, the user is asked: inputs.contactSearch."""
    found = job.call(name=job.restaurant["name"], contact=job.restaurant.get("contact"))
    people = found["contacts"]
    if len(people) == 1:
        return {**found, "contact": people[0]}
    asks = {
        "title": "Whom do we talk to?",
        "description": f"The search found {' and '.join(people)} at {job.restaurant['name']}.",
        "schema": {
            "type": "object",
            "required": ["contact"],
            "properties": {"contact": {"enum": people}},
            "additionalProperties": False,
        },
    }
    return {**found, "actionRequired": asks}


def contact_of(job: Job) -> object:
    """Return whom the search found, or whom the user chose."""
    job.output("contactSearch", "contacts")
    return job.inputs.get("contactSearch", {}).get("contact") or job.output("contactSearch", "contact")


def details_extraction(job: Job) -> dict:
    """Read the registry's entry of the company that the user selected."""
    return job.call(companyNumber=job.inputs["companySelection"]["companyNumber"], contact=contact_of(job))


# --- step 6, phase 1


def cloudwaitress_account(job: Job) -> dict:
    """Register an account with the user's e-mail and password, or sign in to one."""
    account = job.configuration["account"]
    return job.call(
        register=account["register"], email=account["email"], password=job.configuration["password"]
    )


def code_generation(job: Job) -> dict:
    """Generate the website's code into files of this task's own directory; they stay as long as the job."""
    answer = job.call(name=job.restaurant["name"], address=job.output("extraction", "address"))
    directory = os.environ.get("DATA_DIR", ".")
    paths = []
    for name, text in sorted(answer.pop("files").items()):
        path = os.path.join(directory, os.path.basename(name))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        paths.append(path)
    return {**answer, "filePaths": paths}


def create_onboarding_user(job: Job) -> dict:
    """Create the onboarding user."""
    return job.call(email=job.configuration["account"]["email"], contact=contact_of(job))


def upload_images(job: Job) -> dict:
    """Upload the pictures of the selected menu."""
    menu = selected_menu(job)
    return job.call(name=job.restaurant["name"], menu=menu["id"], pictures=menu["pictures"])


def selected_menu(job: Job) -> dict:
    """Return the menu that the user selected, as the website has it."""
    wanted, menus = job.configuration["menu"]["id"], job.output("extraction", "menus")
    for menu in menus:
        if menu["id"] == wanted:
            return menu
    raise Failure(f"no menu {wanted!r} on the website, only {', '.join(menu['id'] for menu in menus)}")


# --- step 6, phase 2


def restaurant_registration(job: Job) -> dict:
    """Register the restaurant, under the account of phase 1 if there is one."""
    return job.call(
        name=job.restaurant["name"],
        address=job.output("detailsExtraction", "registeredAddress"),
        companyNumber=job.inputs["companySelection"]["companyNumber"],
        accountId=job.output("cloudwaitressAccount", "accountId", None),
    )


def website_config(job: Job) -> dict:
    """Publish the files that codeGeneration wrote."""
    files = {}
    for path in job.output("codeGeneration", "filePaths"):
        with open(path, encoding="utf-8") as file:
            files[os.path.basename(path)] = file.read()
    return job.call(name=job.restaurant["name"], files=files)


def services_config(job: Job) -> dict:
    """Say what the restaurant offers, and when."""
    return job.call(
        restaurantId=job.output("restaurantRegistration", "restaurantId"),
        openingHours=job.output("detailsExtraction", "openingHours"),
    )


def payment_config(job: Job) -> dict:
    """Say how guests pay."""
    return job.call(
        restaurantId=job.output("restaurantRegistration", "restaurantId"),
        vatNumber=job.output("detailsExtraction", "vatNumber"),
    )


def menu_import(job: Job) -> dict:
    """Import the selected menu, with the pictures that were uploaded."""
    menu = selected_menu(job)
    return job.call(
        name=job.restaurant["name"],
        menu=menu["id"],
        items=menu["items"],
        images=job.output("uploadImages", "urls", []),
    )


def sync_onboarding_user(job: Job) -> dict:
    """Copy the onboarding user's record."""
    return job.call(userId=job.output("createOnboardingUser", "userId"), contact=contact_of(job))


# --- step 6, phases 3 and 4


def of_imported_menu(job: Job) -> dict:
    """Make option sets, or item tags, for the imported menu."""
    return job.call(menuId=job.output("menuImport", "menuId"), items=job.output("menuImport", "items"))


TASKS = {
    "extraction": extraction,
    "contactSearch": contact_search,
    "detailsExtraction": details_extraction,
    "cloudwaitressAccount": cloudwaitress_account,
    "codeGeneration": code_generation,
    "createOnboardingUser": create_onboarding_user,
    "uploadImages": upload_images,
    "restaurantRegistration": restaurant_registration,
    "websiteConfig": website_config,
    "servicesConfig": services_config,
    "paymentConfig": payment_config,
    "menuImport": menu_import,
    "syncOnboardingUser": sync_onboarding_user,
    "optionSets": of_imported_menu,
    "itemTags": of_imported_menu,
}


def main(arguments: list[str]) -> int:
    """Do one task. Whatever goes wrong is one line on stderr and exit status 1."""
    secrets: list[str] = []
    try:
        if len(arguments) != 1 or arguments[0] not in TASKS:
            raise Failure(f"usage: worker.py TASK, one of {', '.join(TASKS)}")
        with open(os.environ["INPUTS_PATH"], encoding="utf-8") as file:
            job = Job(arguments[0], json.load(file))
        secrets = job.secrets
        outputs = TASKS[job.task](job)
        with open(os.environ["OUTPUTS_PATH"], "w", encoding="utf-8") as file:
            json.dump(outputs, file)
    except KeyError as error:
        return _failed(f"{error} is missing", arguments, secrets)
    except (Failure, OSError, ValueError, TypeError) as error:
        return _failed(str(error), arguments, secrets)
    return 0


def _failed(reason: str, arguments: list[str], secrets: list[str]) -> int:
    for secret in secrets:
        reason = reason.replace(secret, "***")
    task = f"{arguments[0]}: " if arguments and arguments[0] in TASKS else ""
    print(task + " ".join(reason.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
