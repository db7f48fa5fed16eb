"""`mainstay run --strategy`: which strategy is meant, and whether there is one of that name."""

from __future__ import annotations

from mainstay.cli.cluster import Target, call
from mainstay.cli.console import fail, note
from mainstay.cli.strategies import DEFAULT_LIBRARY, called, close, library_of
from mainstay.cli.words import some
from mainstay.core.strategy.names import STRATEGY_NAME
from mainstay.shell.kube import LIBRARIES, STRATEGIES, Kube, Object, path

SUFFIX = ".py"


def read(target: Target, text: str) -> dict[str, str]:
    """spec.strategy of NAME or LIBRARY/NAME, also of a file's or an object's name; ends the command if it is neither."""
    library, slash, name = text.partition("/")
    if not slash:
        library, name = "", text
    if "/" in name or not name or (slash and not library):
        fail(f"--strategy {text}: write NAME or LIBRARY/NAME")
    if not STRATEGY_NAME.fullmatch(name):
        bare = name.removesuffix(SUFFIX)
        if bare != name and STRATEGY_NAME.fullmatch(bare):
            name = bare
        elif (
            "." in name and not library and (found := call(target, lambda kube: _object(kube, target, name)))
        ):
            library, name = found
        else:
            fail(
                f"--strategy {text}: names of strategies are letters, digits, _ and -, and begin with a letter or digit; "
                "the file Alpha.py of library main is Alpha, that of another library is LIBRARY/Alpha"
            )
    return {**({"library": library} if library not in ("", DEFAULT_LIBRARY) or slash else {}), "name": name}


async def _object(kube: Kube, target: Target, name: str) -> tuple[str, str] | None:
    """Library and name of the Strategy object that is called so."""
    obj = await kube.get(path(STRATEGIES, target.namespace, name))
    return None if obj is None else (library_of(obj)[1], called(obj))


async def tell(kube: Kube, target: Target, asked: dict[str, str]) -> None:
    """Say so where there is no such strategy, or no such library: the run waits until there is."""
    library, name = asked.get("library") or DEFAULT_LIBRARY, asked["name"]
    of_it = [s for s in await _items(kube, STRATEGIES, target) if library_of(s)[1] == library]
    if any(called(strategy) == name for strategy in of_it):
        return
    if not of_it and await kube.get(path(LIBRARIES, target.namespace, library)) is None:
        there = sorted(obj["metadata"]["name"] for obj in await _items(kube, LIBRARIES, target))
        note(
            f"there is no library {library} in namespace {target.namespace} (there are: {some(there) or 'none'})"
        )
        return
    alike = close(name, [called(strategy) for strategy in of_it])
    hint = (
        f"; called alike: {', '.join(alike)}"
        if alike
        else f"; `{target.say('status library/' + library)}` lists what it has"
    )
    note(f"library {library} has no strategy {name}{hint}")


async def _items(kube: Kube, plural: str, target: Target) -> list[Object]:
    return [obj async for page in kube.pages(path(plural, target.namespace)) for obj in page["items"]]
