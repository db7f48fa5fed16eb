"""A crash before and after every single effect: the trades are those of an undisturbed run, each exactly once."""

import os

import pytest

CANDLES = range(363, 381)


class Crash(BaseException):
    """The process is gone; nothing in it may react."""


class Effects:
    """Counts effects and crashes before or after one of them."""

    def __init__(self, crash_at=None, *, after=False):
        self.crash_at, self.after, self.count = crash_at, after, 0

    def __call__(self, effect):
        self.count += 1
        crash = self.count == self.crash_at
        if crash and not self.after:
            raise Crash
        result = effect()
        if crash:
            raise Crash
        return result


@pytest.fixture
def world(modules, strategy, tmp_path, monkeypatch):
    """`trade(effects, run_id)` runs one life of a bot to the last candle."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    book = modules.book.Book(str(tmp_path / "ledger.jsonl"))

    class Broker:
        def __init__(self, effects, run_id):
            self.effects, self.session = effects, book.open_session(run_id, 1, os.getpid())

        def ask(self, **request):
            return self.effects(lambda: book.request(self.session, request))

        def place(self, order):
            return self.ask(op="place", order=order)["order"]

        def cancel(self, client_order_id):
            self.ask(op="cancel", clientOrderId=client_order_id)

        def cancel_all(self):
            return self.ask(op="cancelAll")["cancelled"]

        def candle(self, index, candle):
            return self.ask(op="candle", index=index, high=candle.high)["filled"]

    def trade(effects, run_id, last=CANDLES[-1], **params):
        position = modules.position.Position(str(tmp_path / run_id), run_id)
        position.cursor = max(position.cursor, CANDLES[0])
        save = position.save
        position.save = lambda: effects(save)
        series, broker = modules.prices.Series(), Broker(effects, run_id)
        rules = strategy("MeanReversionStrategy", **{"period": 10, "width": 1.2, **params})
        trader = modules.trader.Trader(rules, series, position, broker, "1", 0.01, 0.003)
        trader.warm_up()
        trader.settle()
        while position.cursor <= last:
            trader.step()
        trader.stop()
        return position.quantity

    trade.book = book
    trade.fills = lambda run_id: [
        (e["side"], e["quantity"], e["price"], e["candle"])
        for e in book.events
        if e["runId"] == run_id and e["event"] == "order-filled"
    ]
    yield trade
    book.close()


def test_every_crash_point(world):
    undisturbed = Effects()
    world(undisturbed, "undisturbed")
    expected = world.fills("undisturbed")
    orders = [e["clientOrderId"] for e in world.book.events if e["event"] == "order-filled"]
    kinds = {"-".join(part for part in name.split("-") if not part.isdigit()) for name in orders}
    assert kinds == {"buy", "sell", "take-profit"}, "the candles must contain every way to trade"

    for after in (False, True):
        for point in range(1, undisturbed.count + 1):
            run_id = f"crash-{'after' if after else 'before'}-{point}"
            with pytest.raises(Crash):
                world(Effects(point, after=after), run_id)
            world(Effects(), run_id)
            assert world.fills(run_id) == expected, run_id
    assert world.book.violations == []
    assert world.book.open_orders() == []


def test_a_strategy_edited_while_the_bot_was_down(world):
    """The new code may decide otherwise; what the exchange holds is still what the bot knows of."""
    undisturbed = Effects()
    world(undisturbed, "undisturbed")
    for point in range(1, undisturbed.count + 1):
        run_id = f"edited-{point}"
        with pytest.raises(Crash):
            world(Effects(point, after=True), run_id)
        held = world(Effects(), run_id, width=9)
        bought = sum(quantity if side == "buy" else -quantity for side, quantity, *_ in world.fills(run_id))
        assert held == pytest.approx(bought), run_id


def test_a_crash_at_every_effect_of_one_run(world):
    """Each life gets a little further than the last, and the run ends all the same."""
    world(Effects(), "undisturbed")
    for life in range(1, 200):
        try:
            world(Effects(3 + life % 5, after=life % 2 == 0), "hard-life")
        except Crash:
            continue
        break
    else:
        pytest.fail("no progress")
    assert world.fills("hard-life") == world.fills("undisturbed")
    assert world.book.verdict()["ok"]


def test_stops_in_the_middle(world):
    """A stop cancels the open order; the next start places another one. The trades stay the same."""
    world(Effects(), "undisturbed")
    for last in CANDLES:
        world(Effects(), "stopped-at-each-candle", last)
        assert world.book.open_orders() == []
    assert world.fills("stopped-at-each-candle") == world.fills("undisturbed")
