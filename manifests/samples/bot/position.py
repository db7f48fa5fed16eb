"""What the bot must not forget, in one file: how far it has replayed, what it holds, what it was about to do.

The file is replaced as a whole (write a temporary file, fsync, rename, fsync the directory): a reader, or a bot that
starts after a power cut, finds the old content or the new one, never half of either.
"""

from __future__ import annotations

import json
import os


class Position:
    """position.json. `save()` makes the present values durable; they are read when it is created.

    Raises ValueError if the file doesn't parse or belongs to another run: what a bot held is never guessed.
    """

    FIELDS = (
        "runId",  # whose position this is
        "cursor",  # the next candle to replay: those below it have been traded
        "quantity",  # BTC held
        "entryPrice",  # what one of them cost, in USDT
        "realised",  # profit so far, in USDT
        "trades",  # fills so far
        "takeProfit",  # the open order that sells with a profit, or null
        "takeProfits",  # how many such orders there have been: the next one's number
        "intents",  # orders decided on but not yet confirmed: carried out first after a restart
        "pausedAttempt",  # the attempt in which somebody paused the bot, or null
    )

    def __init__(self, directory: str, run_id: str) -> None:
        self.path = os.path.join(directory, "position.json")
        self.run_id = run_id
        self.cursor = 0
        self.quantity = 0.0
        self.entry_price = 0.0
        self.realised = 0.0
        self.trades = 0
        self.take_profit: dict | None = None
        self.take_profits = 0
        self.intents: list[dict] = []
        self.paused_attempt: str | None = None
        os.makedirs(directory, exist_ok=True)
        if os.path.exists(self.path):
            self._load()

    def _attributes(self) -> list[tuple[str, str]]:
        """(name in the file, name here): camelCase there, snake_case here."""
        return [(f, "".join("_" + c.lower() if c.isupper() else c for c in f)) for f in self.FIELDS]

    def _load(self) -> None:
        try:
            with open(self.path, encoding="utf-8") as file:
                stored = json.load(file)
            missing = [name for name in self.FIELDS if name not in stored]
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}); move it away to start over") from error
        if missing:
            raise ValueError(f"{self.path} lacks {', '.join(missing)}; move it away to start over")
        if stored["runId"] != self.run_id:
            raise ValueError(
                f"{self.path} belongs to run {stored['runId']!r}, this is run {self.run_id!r}; "
                "use that run's id, or another data directory"
            )
        for field, attribute in self._attributes():
            setattr(self, attribute, stored[field])

    def save(self) -> None:
        """Write the file. Raises OSError, for example when the disk is full; the old content stays then."""
        temporary = self.path + ".new"
        content = json.dumps({field: getattr(self, name) for field, name in self._attributes()}, indent=1)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        directory = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
