"""Checkpoints of `char_lm.py`: orbax writes each into a folder of its own and renames that only
when it is whole.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

# orbax warns of each half-written folder that it passes over
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoint(NamedTuple):
    """Where a run stands after `step` steps."""

    step: int
    state: Any  # a pytree of arrays
    record: dict[str, Any]  # what fits into JSON; its "run" says which run this is


class Checkpoints:
    """The two newest checkpoints of a run."""

    def __init__(self, folder: Path) -> None:
        # Not asynchronous: the training step gives its state away, so that must be on disk before
        # the next one begins.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._folder, self._manager = (
            folder,
            ocp.CheckpointManager(folder.absolute(), options=options),
        )

    def steps(self) -> list[int]:
        """Those that were written to the end."""
        return sorted(self._manager.all_steps())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write one, then remove what is older than the last two."""
        step, state, record = checkpoint
        self._manager.save(
            step,
            args=ocp.args.Composite(
                record=ocp.args.JsonSave(record), state=ocp.args.StandardSave(state)
            ),
        )

    def restore(self, like: Any, run: dict[str, Any]) -> Checkpoint | None:
        """The newest checkpoint that can be read, None if there is none; ValueError if it is of
        another run.

        `like` gives the structure, shapes and dtypes of the state. A checkpoint that something else
        has damaged is removed once an older one has been read."""
        damaged = []
        for step in reversed(self.steps()):
            record = self._read(step, "record", ocp.args.JsonRestore())
            if record is not None and record["run"] != run:
                raise ValueError(_difference(self._folder.parent, record["run"], run))
            state = (
                None
                if record is None
                else self._read(step, "state", ocp.args.StandardRestore(like))
            )
            if record is None or state is None:
                damaged.append(step)
                continue
            for other in damaged:
                self._manager.delete(other)
            return Checkpoint(step, state, record)
        if damaged:
            raise ValueError(
                f"no checkpoint in {self._folder} can be read: remove it to start from the "
                "beginning"
            )
        return None

    def _read(self, step: int, item: str, how: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception:  # orbax raises whatever its storage does
            return None


def _difference(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> str:
    for name, value in before.items():
        if value != now.get(name):
            if name == "text":
                return f"{folder} holds a run on another text: resume it with that, or choose another --out"
            flag = f"--{name.replace('_', '-')}"
            return f"{folder} holds a run with {flag} {value}, not {now.get(name)}: resume it with that, or choose another --out"
    return f"{folder} holds a run of another version of char_lm.py: choose another --out"
