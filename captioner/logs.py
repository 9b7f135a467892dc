"""What a run writes down while it trains: JSON lines to read and TensorBoard to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from captioner.files import write_atomically


class RunLog:
    """`steps.jsonl` (a line per update), `log.jsonl` (one per validation) and `tensorboard/`.

    A run that is resumed after `updates` updates drops the lines behind them, since those updates
    come again. A log that is not `active`, off the main process, writes nothing.
    """

    def __init__(self, folder: Path, updates: int = 0, active: bool = True):
        self.active = active
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("steps.jsonl", "log.jsonl"):
            drop_lines_after(folder / name, updates)
        self._steps = (folder / "steps.jsonl").open("a", buffering=1, encoding="utf-8")
        self._validations = (folder / "log.jsonl").open("a", buffering=1, encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=updates + 1)

    def update(self, line: dict[str, float]) -> None:
        if self.active:
            self._steps.write(json.dumps(line) + "\n")
            self._scalars("update", line)

    def validation(self, line: dict[str, float]) -> None:
        if self.active:
            self._validations.write(json.dumps(line) + "\n")
            self._scalars("validation", line)
            self.flush()

    def flush(self) -> None:
        """Puts everything on the disk, so that no checkpoint is ahead of its log."""
        if self.active:
            for file in (self._steps, self._validations):
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        if self.active:
            self.flush()
            self._steps.close()
            self._validations.close()
            self._board.close()

    def _scalars(self, group: str, line: dict[str, float]) -> None:
        for name, value in line.items():
            if name != "step" and not isinstance(value, str):
                self._board.add_scalar(f"{group}/{name}", value, line["step"])


def drop_lines_after(path: Path, step: int) -> None:
    """Keeps the lines of a JSON-lines file whose `step` is at most `step`, and no torn last one."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(text)["step"] <= step:
                kept.append(text + "\n")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # cut off while it was written
    write_atomically(path, "".join(kept))
