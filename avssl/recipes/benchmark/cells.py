"""Cells: a protocol on a data set for one model. Each is a command line of a verb, and keeps its own folder.

::

    OUT/cells/<data set>/<protocol>/<model>/
    ├── probe.json ...      what the verb writes
    ├── output.txt          what the verb prints
    └── cell.json           the command, what it was run on, and its scores once they are there
"""

from __future__ import annotations

import shlex
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from avssl.config import ConfigError
from avssl.config.command import Verb
from avssl.core.data_files import read_json
from avssl.core.errors import AvsslError, Interruption
from avssl.core.whole_file import write_json
from avssl.recipes.benchmark.models import Model, check_inputs, inputs_of
from avssl.recipes.benchmark.protocols import PROTOCOLS, Protocol, option_words
from avssl.recipes.benchmark.scores import Score, read_scores
from avssl.recipes.benchmark.suite import DataSet, Entry, Suite

RECORD = "cell.json"


@dataclass(frozen=True)
class How:
    """Settings that no number depends on."""

    out: Path
    root: Path
    """Folder of the manifests."""
    device: str
    num_workers: int | None


@dataclass(frozen=True)
class Cell:
    """A protocol on a data set for one model."""

    data: DataSet
    entry: Entry
    model: Model
    words: tuple[str, ...]
    """Command line without output, device and processes: all that the numbers depend on."""
    folder: Path

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return PROTOCOLS[self.entry.protocol]

    @property
    def command(self) -> str:
        """Command that prints the numbers of the cell."""
        return f"avssl {self.protocol.verb.name} {shlex.join(self.words)}"


def make_cell(suite: Suite, data: DataSet, entry: Entry, model: Model, how: How) -> Cell:
    """Return the cell of a model."""
    words = protocol_words(suite, data, entry, model.checkpoint, how)
    return Cell(data, entry, model, tuple(words), cell_folder(data, entry, model.name, how))


def cell_folder(data: DataSet, entry: Entry, model: str, how: How) -> Path:
    """Return the folder of a cell."""
    parts = (quote(part, safe=" ,()=") for part in (data.name, entry.name, model))
    return how.out.joinpath("cells", *parts)


def protocol_words(suite: Suite, data: DataSet, entry: Entry, checkpoint: str, how: How) -> list[str]:
    """Return the command line of a protocol, and check it; nothing is run.

    Raises:
        ConfigError: If an option is unknown, of a wrong type or out of range.
    """
    protocol = PROTOCOLS[entry.protocol]
    verb = protocol.verb
    if protocol.needs_one_of and not set(protocol.needs_one_of) & entry.options.keys():
        raise ConfigError(f"{entry.place}: set {' or '.join(protocol.needs_one_of)}.")
    columns = {option: getattr(data.fields, name) or None for name, option in verb.columns.items()}
    if data.fields.fold_column:
        columns[verb.columns.get("split_column", "")] = None
    options = {name: _option(suite, name, value) for name, value in entry.options.items()}
    checkpoint_words = ["--checkpoint", checkpoint]
    seed = {verb.options["seed"]: suite.fields.seed}
    words = [str(how.root / data.fields.manifest), *checkpoint_words, *protocol.fixed]
    words += option_words({**columns, **seed, **options})
    try:
        Verb(verb.name, verb.path).parse(words)
    except ConfigError as error:
        raise ConfigError(f"{entry.place}: {error}") from error
    return words


def _option(suite: Suite, name: str, value: Any) -> Any:
    """Return the value of an option; config files are relative to the suite."""
    return str(suite.path.parent / str(value)) if name == "config" else value


def finished(cell: Cell) -> list[Score] | None:
    """Return the scores of a cell that is done, or None.

    Raises:
        OutputError: If the folder holds the numbers of another command.
    """
    record = _record(cell.folder)
    if record is None or record["scores"] is None:
        return None
    check_inputs(cell.folder, record, _identity(cell))
    return [Score.from_plain(plain) for plain in record["scores"]]


def seconds_taken(folder: Path) -> float | None:
    """Return the time that the finished cell of a folder took, or None."""
    record = _record(folder)
    return None if record is None or record["scores"] is None else float(record["seconds"])


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD
    found: dict[str, Any] | None = read_json(path) if path.exists() else None
    return found


def _identity(cell: Cell) -> dict[str, Any]:
    return inputs_of(cell.words) | {"weights": cell.model.weights}


def run_cell(cell: Cell, suite: Suite, how: How, *, overwrite: bool, progress: bool) -> list[Score] | str:
    """Run the verb of a cell and return its scores, or the message of its error.

    Raises:
        Interruption: If a signal asked to stop.
    """
    verb = cell.protocol.verb
    cell.folder.mkdir(parents=True, exist_ok=True)
    start, begun, identity = time.monotonic(), _record(cell.folder), _identity(cell)
    # What a command left unfinished is continued by the same one alone.
    overwrite |= begun is not None and begun != begun | identity
    write_json(cell.folder / RECORD, identity | {"scores": None})
    words = [*cell.words, *output_words(cell, how, overwrite=overwrite, progress=progress)]
    if verb.name == "finetune" and (run := cell.folder / "run").joinpath("config.yaml").exists() and not overwrite:
        words = ["--resume", str(run), *option_words({} if progress else {"progress": False})]
    try:
        with (cell.folder / "output.txt").open("w") as log, redirect_stdout(log):
            Verb(verb.name, verb.path).run(words)
        scores = read_scores(cell.entry.protocol, result_file(cell), suite.fields.seed)
    except Interruption:
        raise
    except AvsslError as error:
        return str(error)
    record = identity | {"seconds": round(time.monotonic() - start, 1)}
    write_json(cell.folder / RECORD, record | {"scores": [score.plain() for score in scores]})
    return scores


def result_file(cell: Cell) -> Path:
    """Return the file of the verb's numbers."""
    verb = cell.protocol.verb
    return cell.folder / ("run" if verb.writes_folder else "") / verb.result


def output_words(cell: Cell, how: How, *, overwrite: bool, progress: bool) -> list[str]:
    """Return the words that say where and how, which no number depends on."""
    verb = cell.protocol.verb
    values = {"device": how.device, "num_workers": how.num_workers, "cache_folder": str(how.out / "features")}
    options: dict[str, Any] = {
        "out": str(cell.folder / "run" if verb.writes_folder else result_file(cell)),
        **{option: values[name] for name, option in verb.options.items() if name in values},
    }
    if overwrite:
        options["overwrite"] = True
    if not progress:
        options["progress"] = False
    return option_words(options)
