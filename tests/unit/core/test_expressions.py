"""CEL: what compiles, what it says, and what becomes of one that can't be evaluated."""

from __future__ import annotations

import pytest

from mainstay.core.expressions import (
    ITEMS_MAX,
    ExpressionError,
    compiled,
    evaluate,
    extracted,
    unknown_fields,
)

VALUES = {
    "inputs": {"go": True, "n": 3, "name": "x", "list": [1, 2], "none": None, "deep": {"a": {"b": 1.5}}},
    "context": {"a": {"files": ["x", "y"]}},
    "tasks": {"a": {"state": "Completed", "attempt": 2, "outputs": {"n": 1}}},
}
TRUE = (
    "true",
    "inputs.go",
    "inputs.n == 3",
    "inputs.n > 2 && inputs.name == 'x'",
    "has(inputs.deep.a)",
    "!has(inputs.missing)",
    "'files' in context.a",
    "size(context.a.files) == 2",
    "context.a.files.exists(f, f == 'y')",
    "tasks.a.state == 'Completed'",
    "tasks['a'].outputs.n == 1",
    "inputs.none == null",
    "inputs.deep.a.b < 2.0",
    "assets.size() == 0",
    "inputs.missing || true",
    "has(inputs.cargo) ? inputs.cargo == 'IRON' : true",
)
FALSE = (
    "false",
    "!inputs.go",
    "inputs.n == 4",
    "has(inputs.cargo)",
    "'x' in inputs.list",
    "tasks.a.attempt < 2",
)
NOT_COMPILED = {
    "": "",
    "1 +": "",
    "nope": "undeclared",
    "input.go": "undeclared",
    "1": "int",
    "'yes'": "string",
    "inputs": "map",
    "size(inputs)": "int",
    "inputs.n +": "",
    "import os": "",
    "__import__('os')": "",
    "x\x00": "",
}
NOT_EVALUATED = {
    "inputs.missing": "missing",
    "inputs.missing.more": "missing",
    "inputs.n": "not a boolean",
    "inputs.name": "not a boolean",
    "inputs.none": "not a boolean",
    "inputs.name > 3": "",
    "inputs.list[7] == 1": "",
    "1 / (inputs.n - 3) == 1": "zero",
    "inputs.name.matches('(')": "",
    "tasks.b.state == 'Completed'": "b",
}


@pytest.mark.parametrize("text", TRUE)
def test_true(text):
    assert evaluate(text, VALUES) is True


@pytest.mark.parametrize("text", FALSE)
def test_false(text):
    assert evaluate(text, VALUES) is False


@pytest.mark.parametrize("text", NOT_COMPILED)
def test_does_not_compile(text):
    with pytest.raises(ExpressionError) as caught:
        compiled(text)
    assert NOT_COMPILED[text] in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize("text", NOT_EVALUATED)
def test_can_not_be_evaluated(text):
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, VALUES)
    assert NOT_EVALUATED[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value)


def test_values_that_are_left_out_are_empty():
    assert evaluate("size(inputs) + size(context) + size(tasks) + size(assets) == 0", {})


def test_a_loop_ends():
    text = "inputs.l.all(a, inputs.l.all(b, inputs.l.all(c, a + b + c >= 0)))"
    with pytest.raises(ExpressionError):
        evaluate(text, {"inputs": {"l": list(range(1000))}})


@pytest.mark.parametrize("value", [2**63, -(2**70), 10**30, "\ud800", 1e400, [[[{}]]], object()])
def test_values_that_cel_does_not_have_are_told(value):
    """Either they can be compared, or it is an error in words: never a crash."""
    try:
        said = str(evaluate("inputs.x == inputs.x", {"inputs": {"x": value}}))
    except ExpressionError as error:
        said = str(error)
    assert said


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("assets.ship.holdings.exists(h, h.symbol == 'A' && h.units >= 3)", ()),
        ("!assets.a.holdings.all(x, x.symbol in inputs.list) || tasks.a.outputs.symbl == 1", ()),
        ("inputs.assets.ship.cargo == 'assets.ship.cargo'", ()),
        ("'A' in assets.factory.accepts && assets.factory.state == 'Free'", ()),
        (
            "assets.ship.holdings.exists(h, h.symbl == 'A')",
            ("a holding has no symbl; it has symbol and units",),
        ),
        (
            "assets.ship.holding.size() > 0",
            ("an asset has no holding; it has ref, type, state, holdings, accepts",),
        ),
    ],
)
def test_fields_that_nothing_has_are_found_before_there_is_cargo(expression, what):
    compiled(expression)
    assert unknown_fields(expression) == what


def test_a_path_does_not_look_into_lists_that_would_hold_everything_up():
    assert extracted("body.size()", [0] * ITEMS_MAX) == ITEMS_MAX
    with pytest.raises(ExpressionError, match="a list of 2001 items"):
        extracted("body.size()", {"data": {"fleet": [[0], [0] * (ITEMS_MAX + 1)]}})
