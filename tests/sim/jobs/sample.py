"""The registration job: six steps, the last in four phases with twelve sub-steps, as people write it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

ENABLED = "inputs.config.stepsEnabled"


def task(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "program": {"command": ["worker", name]}, **fields}


def sub_step(name: str, *wishes: str, **fields: Any) -> dict[str, Any]:
    return task(name, when=" && ".join([f"{ENABLED}.{name}", *wishes]), **fields)


def action(name: str, title: str, *required: str, **fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": list(required)} if required else {}
    return {"name": name, "action": {"title": title, "schema": schema, **fields}}


MENU = "inputs.config.menu.selected"

ACCOUNT_SETUP = [
    {
        "name": "phase1",
        "tasks": [
            sub_step("cloudwaitressAccount", "inputs.config.account.register"),
            sub_step("codeGeneration", blocking=False),
            sub_step("createOnboardingUser", "inputs.config.onboarding.createUser", blocking=False),
            sub_step("uploadImages", f"{MENU} && inputs.config.menu.images", blocking=False),
        ],
    },
    {
        "name": "phase2",
        "tasks": [
            sub_step("restaurantRegistration"),
            sub_step("websiteConfig", blocking=False, dependsOn=["codeGeneration"]),
            sub_step("servicesConfig", blocking=False, dependsOn=["restaurantRegistration"]),
            sub_step("paymentConfig", blocking=False, dependsOn=["restaurantRegistration"]),
            sub_step("menuImport", MENU, blocking=False),
            sub_step(
                "syncOnboardingUser",
                "inputs.config.onboarding.syncRecord",
                blocking=False,
                dependsOn=["createOnboardingUser"],
            ),
        ],
    },
    {
        "name": "phase3",
        "tasks": [sub_step("optionSets", "inputs.config.menu.optionSets", dependsOn=["menuImport"])],
    },
    {
        "name": "phase4",
        "tasks": [sub_step("itemTags", "inputs.config.menu.itemTags", dependsOn=["menuImport"])],
    },
]
SUB_STEPS = [t["name"] for phase in ACCOUNT_SETUP for t in phase["tasks"]]

STEPS = [
    {"name": "extraction", "task": {"program": {"command": ["worker", "extraction"]}}},
    {"name": "contactSearch", "task": {"program": {"command": ["worker", "contactSearch"]}}},
    action("companySelection", "Choose the company", "company"),
    {"name": "detailsExtraction", "task": {"program": {"command": ["worker", "detailsExtraction"]}}},
    action("configuration", "Configure the account", "email", secretFields=["password"]),
    {"name": "accountSetup", "phases": ACCOUNT_SETUP},
]

CONFIG = {
    "account": {"register": True},
    "menu": {"selected": True, "images": True, "optionSets": True, "itemTags": True},
    "onboarding": {"createUser": True, "syncRecord": True},
    "stepsEnabled": dict.fromkeys(SUB_STEPS, True),
}
ANSWERS = {
    "companySelection": {"company": "Trattoria"},
    "configuration": {"email": "a@example.com", "password": {"secretKeyRef": {"name": "cw", "key": "pw"}}},
}
OUTPUTS: dict[str, dict[str, Any]] = {
    "extraction": {"restaurant": "Trattoria"},
    "contactSearch": {"contacts": 2},
    "codeGeneration": {"filePaths": ["head.html", "body.html"]},
    "createOnboardingUser": {"userCreated": True},
    "menuImport": {"succeeded": True},
}


def registration(*, answered: bool = True, **changes: Any) -> dict[str, Any]:
    """Its spec. `changes`: tasks by name → fields to set on them; other names are fields of spec."""
    spec: dict[str, Any] = {
        "steps": deepcopy(STEPS),
        "inputs": {"config": deepcopy(CONFIG), **(deepcopy(ANSWERS) if answered else {})},
    }
    places = {t["name"]: t for p in spec["steps"][-1]["phases"] for t in p["tasks"]}
    places |= {s["name"]: s["task"] for s in spec["steps"] if "task" in s}
    for name, value in changes.items():
        if name in places:
            places[name].update(value)
        else:
            spec[name] = value
    return spec


def account_setup(**changes: Any) -> dict[str, Any]:
    """The sixth step alone."""
    spec = registration(**changes)
    return {**spec, "steps": spec["steps"][-1:]}
