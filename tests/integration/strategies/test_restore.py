"""etcd comes back from before an edit: what lives runs the newest code already, so nobody is restarted for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.strategies.judge import Judge
from tests.integration.strategies.shop import Shop, code, digest, names, same
from tests.support.plane import RealPlane, start_plane
from tests.support.stage import Client, eventually, staged

from mainstay.shell.kube import LEASES, LIBRARIES, RUNS, STRATEGIES, path

pytestmark = [pytest.mark.xdist_group("restore"), pytest.mark.timeout(240)]

BOTS = names("b", 6)
TEXTS = [code("Ema", version) for version in (1, 2, 3)]


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPlane]:
    with start_plane(tmp_path_factory.mktemp("plane") / "home") as real:
        yield real


def reconnect(shop: Shop) -> None:
    """The API server is another process now."""
    shop.stage.client.close()
    shop.stage.client = Client(shop.stage.plane.kubeconfig)
    # Ready comes before every kind can be listed.
    for plural in (RUNS, LEASES, LIBRARIES, STRATEGIES):
        eventually(lambda p=plural: shop.stage.client.ask("GET", path(p))[0] == 200, plural)


@pytest.mark.parametrize("operator", ["down", pytest.param("alive", marks=pytest.mark.soak)])
def test_etcd_is_restored_to_before_an_edit(own_plane: RealPlane, tmp_path: Path, operator: str) -> None:
    with staged(own_plane, ports=12) as stage:
        shop = Shop(stage)
        directory = shop.library("main", files={"Ema.py": TEXTS[0], "Safe.py": code("Safe")}, default="Safe")
        for name in BOTS:
            shop.sleeper(name, "main", "Ema")
        shop.server("server", "main", "Ema")
        shop.server("safe", "main", "Safe")
        shop.server("pinned", "main", "Ema", ref={"revision": digest(TEXTS[0])})
        edited = (*BOTS, "server")
        shop.runs(TEXTS[0], *edited, "pinned")
        shop.runs(code("Safe"), "safe")
        stage.crash()
        own_plane.snapshot_etcd(tmp_path / "snapshot")
        reconnect(shop)
        stage.restart()
        for text in TEXTS[1:]:
            (directory / "Ema.py").write_text(text)
            shop.runs(text, *edited)
        before = shop.lives(*edited, "safe", "pinned")
        starts = shop.starts(*before)
        leases = shop.leases()

        if operator == "down":
            stage.crash()
        own_plane.restore_etcd(tmp_path / "snapshot")
        reconnect(shop)
        with Judge(stage) as judge:
            if operator == "alive":
                lost = stage.shell.operator.lost
                assert lost is not None
                eventually(lambda: lost.done() or stage.shell._failed, "that it notices", 60)
                stage.crash()
            assert shop.run("server")["status"]["strategy"]["hash"] == digest(TEXTS[0])
            stage.restart()
            shop.runs(TEXTS[2], *edited)
            shop.runs(code("Safe"), "safe")
            shop.runs(TEXTS[0], "pinned")
            shop.offers("main", {"Ema": TEXTS[2], "Safe": code("Safe")})
            same(before, shop.lives(*before))
            same(starts, shop.starts(*before))
            assert shop.leases() == leases
            # and the next edit is one restart for each, as ever
            (directory / "Ema.py").write_text(code("Ema", 4))
            shop.runs(code("Ema", 4), *edited)
        judge.verdict()
        again = shop.starts(*before)
        assert {n: len(s) - len(starts[n]) for n, s in again.items()} == {n: int(n in edited) for n in before}
