"""Where strategies come from: files that were seen, keys of ConfigMaps, inline text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mainstay.api.strategy import Strategy
from mainstay.api.strategylibrary import StrategyLibrary
from mainstay.core import reasons
from mainstay.core.strategy.names import NAME_RULE, STRATEGY_NAME, hidden, split
from mainstay.core.strategy.strategy import Content
from mainstay.core.strategy.views import DirectorySource, FileProblem, FileView, Listing
from mainstay.runtime.base import Shelf
from mainstay.shell.store import Key, Object, Store
from mainstay.shell.strategies.index import StrategyIndex

ConfigMapTexts = list[tuple[str, Mapping[str, str]]]
"""(name of the ConfigMap, text by key)"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a source has. With `unknown` nobody can tell now; without a view it has nothing, as `missing` says."""

    view: FileView | None = None
    data: bytes | None = None  # None for a file: it is read when it is needed
    missing: str = ""
    refused: str = ""  # it has something that can't be read, as this says
    unknown: bool = False


class Sources:
    """Looks, and changes nothing."""

    def __init__(self, home: Path, store: Store, index: StrategyIndex, shelf: Shelf) -> None:
        self._home = home
        self._store = store
        self._index = index
        self._shelf = shelf
        self._listed: dict[Key, tuple[tuple[object, ...], Listing]] = {}

    def directory(self, library: StrategyLibrary) -> DirectorySource | None:
        """What has to be watched; None for a library of ConfigMaps."""
        spec = library.spec
        if spec.source.directory is None:
            return None
        return DirectorySource(
            path=str(self._home / spec.source.directory),
            include=tuple(spec.include),
            max_bytes=spec.max_file_bytes,
            debounce_seconds=spec.debounce_milliseconds / 1000,
            rescan_seconds=float(spec.rescan_seconds),
        )

    def known(self, library: StrategyLibrary) -> Listing | None:
        """What it had when it was last looked at; None if nobody has looked yet."""
        if library.spec.source.config_maps is not None:
            return self.config_maps(library)
        return self._shelf.known((library.metadata.namespace, library.metadata.name))

    def config_maps(self, library: StrategyLibrary, held: Mapping[str, str] | None = None) -> Listing:
        """The strategies of a library of ConfigMaps; `held` (name → ConfigMap) as in Shelf.listing."""
        where = (library.metadata.namespace, library.metadata.name)
        selector = library.spec.source.config_maps
        wanted = selector.match_labels if selector is not None else {}
        found = self._store.config_maps_with(library.metadata.namespace, wanted)
        state = (library.metadata.generation, dict(held) if held is not None else None, found)
        listed = self._listed.get(where)
        if listed is not None and (listed[0] == state or (held is None and listed[0][::2] == state[::2])):
            return listed[1]
        listing = self._entries(library, found, held or {})
        self._listed[where] = (state, listing)
        return listing

    def _entries(self, library: StrategyLibrary, found: ConfigMapTexts, held: Mapping[str, str]) -> Listing:
        files: dict[str, FileView] = {}
        problems = []
        entries = [
            (split(key)[0], name, key, text)
            for name, data in found
            for key, text in sorted(data.items())
            if not hidden(key) and any(fnmatchcase(key, pattern) for pattern in library.spec.include)
        ]
        entries.sort(key=lambda entry: held.get(entry[0], entry[1]) != entry[1])
        for called, name, key, text in entries:
            view, problem = _entry(library, called, name, key, text, files)
            if problem is not None:
                problems.append(problem)
            elif view is not None:
                files[called] = view
        return Listing(files, tuple(problems))

    def find(self, strategy: Strategy) -> Found:
        """What the source of a strategy has now."""
        source, called = strategy.spec.source, strategy.called
        if source.inline is not None:
            return _text(called, called + (strategy.spec.suffix or ".py"), _bytes(source.inline))
        if ref := source.config_map:
            text = self._store.config_map_value(strategy.metadata.namespace, ref.name, ref.key)
            if text is None:
                return Found(missing=f"ConfigMap {ref.name} with key {ref.key} does not exist")
            data = _bytes(text)
            if len(data) > (most := self._most(strategy)):
                return Found(
                    refused=f"{ref.name}/{ref.key}: more than {most} bytes, spec.maxFileBytes of its library"
                )
            return _text(called, called + (split(ref.key)[1] or ".py"), data, ref.name)
        library = self._index.library(strategy.metadata.namespace, strategy.spec.library)
        if library is None:
            return Found(missing=f"StrategyLibrary {strategy.spec.library} does not exist")
        listing = self.known(library)
        if listing is None or listing.error is not None:
            return Found(unknown=True)
        view = listing.files.get(called)
        if view is None and (problem := listing.withheld.get(called)) is not None:
            return Found(refused=f"{problem.file}: {problem.message}")
        if view is None or view.config_map:
            file = source.file.path if source.file else called
            return Found(missing=f"library {strategy.spec.library} has no file {file}")
        return Found(view)

    def _most(self, strategy: Strategy) -> int:
        """Bytes that a strategy of its library may have."""
        library = self._index.library(strategy.metadata.namespace, strategy.spec.library)
        return library.spec.max_file_bytes if library is not None else 2**20

    async def read(self, strategy: Strategy, found: Found) -> bytes:
        """The bytes that were found. Raises SourceChangedError."""
        if found.data is not None:
            return found.data
        assert found.view is not None
        key: Key = (strategy.metadata.namespace, strategy.spec.library)
        return await self._shelf.read(key, found.view)


def content(found: Found, problem: str | None) -> Content | None:
    """What was found, and what is wrong with it."""
    view = found.view
    if view is None:
        return None
    return Content(view.file, view.hash, view.md5, view.size, view.modified_at, problem)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(called: str, file: str, data: bytes, config_map: str = "") -> Found:
    return Found(FileView.of(called, file, data, config_map=config_map), data)


def _entry(
    library: StrategyLibrary, called: str, name: str, key: str, text: str, files: dict[str, FileView]
) -> tuple[FileView | None, FileProblem | None]:
    where = f"{name}/{key}"
    if not STRATEGY_NAME.fullmatch(called):
        return None, FileProblem(where, reasons.NAME_INVALID, NAME_RULE)
    if called in files:
        words = f"ConfigMap {files[called].config_map} has a strategy {called} already"
        return None, FileProblem(where, reasons.NAME_COLLISION, words)
    data = _bytes(text)
    if len(data) > library.spec.max_file_bytes:
        words = f"{len(data)} bytes, and spec.maxFileBytes is {library.spec.max_file_bytes}"
        return None, FileProblem(where, reasons.FILE_TOO_LARGE, words, called)
    return FileView.of(called, key, data, config_map=name), None


def owning_library(obj: Object) -> Object | None:
    """The reference to the library that made it, or None."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("kind") == "StrategyLibrary"), None)
