"""Models of a benchmark: the checkpoints, the same network with random weights, and a supervised one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avssl.config import base_of, flatten
from avssl.config.command import Verb
from avssl.core.batch import Modality
from avssl.core.checkpoint_names import HUB, HubName, parse_checkpoint
from avssl.core.data_files import read_json
from avssl.core.errors import InputError
from avssl.core.lock import OutputError
from avssl.core.output_records import place, stamp_of
from avssl.core.user_files import read_bytes
from avssl.core.whole_file import write_json
from avssl.hub.classifier import load_classifier
from avssl.hub.pretrained import PretrainedModel, from_pretrained, random_init, save_pretrained
from avssl.hub.release import find_release
from avssl.recipes.benchmark.protocols import PROTOCOLS, option_words

if TYPE_CHECKING:
    from avssl.recipes.benchmark.cells import How
    from avssl.recipes.benchmark.suite import Suite

RANDOM, SUPERVISED = "random init", "supervised"
_MAX_BYTES = 2**33


@dataclass(frozen=True)
class Model:
    """A column of the table."""

    name: str
    checkpoint: str
    """Value of ``--checkpoint`` of the verbs."""
    weights: str
    """Hash of the weights."""
    has_joint_space: bool = True
    """Audio and video are embedded into one space; a supervised model has only its encoders."""


def inputs_of(words: Sequence[str]) -> dict[str, Any]:
    """Return a command line, and hashes of its manifest and of its config file, if it has one."""
    found = {"command": list(words), "rows": _file_hash(words[0])}
    return found | ({"config": _file_hash(words[words.index("--config") + 1])} if "--config" in words else {})


def _file_hash(name: str) -> str:
    return _hash(name, tuple(stamp_of(Path(name)) or ()))


@cache
def _hash(name: str, stamp: tuple[float, ...]) -> str:
    return hashlib.sha256(read_bytes(name, _MAX_BYTES)).hexdigest()[:16]


def check_inputs(place: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise OutputError if what a folder holds was made from something else than is wanted now."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise OutputError(
                f"{place}: holds results of other {name} ({_difference(found.get(name), value)}). Make them again with "
                "--overwrite, or name another folder."
            )


def _difference(old: Any, new: Any) -> str:
    """Return both values; of command lines the words that differ."""
    if isinstance(old, list) and isinstance(new, list):
        old, new = (" ".join(w for w in one if w not in other) or "without" for one, other in ((old, new), (new, old)))
    return f"{old}, now {new}"


def load_models(checkpoints: Sequence[str]) -> list[Model]:
    """Return the checkpoints as columns, named after their folders.

    Raises:
        HubError: If there is no model at a checkpoint.
        InputError: If a checkpoint is named twice.
    """
    if len({place(each) for each in checkpoints}) < len(checkpoints):
        raise InputError(f"a checkpoint is named twice: {' '.join(checkpoints)}.")
    loaded = [from_pretrained(each) for each in checkpoints]
    names = _names(checkpoints)
    return [Model(n, c, p.weights_hash()) for n, c, p in zip(names, checkpoints, loaded, strict=True)]


def _names(checkpoints: Sequence[str]) -> list[str]:
    """Return the shortest endings of the paths that tell them apart; ``weights`` alone is no name."""
    parts = [_parts(each) for each in checkpoints]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names) and not {RANDOM, SUPERVISED} & set(names):
            return names
    return list(checkpoints)


def _parts(checkpoint: str) -> Sequence[str]:
    """Return the parts of the name of a repository, or of the path of a release without ``weights``."""
    found = parse_checkpoint(checkpoint)
    if isinstance(found, HubName):
        return str(found).removeprefix(HUB).split("/")
    parts = find_release(found).resolve().parts
    return parts[:-1] if parts[-1] == "weights" else parts


def random_columns(models: Sequence[Model], seed: int) -> dict[str, str]:
    """Return, for each network among the models, the column of its random weights and a checkpoint with that network.

    The column is :data:`RANDOM` if all models have one network, and else names the first model that has it.
    """
    first: dict[str, Model] = {}
    for model in models:
        first.setdefault(random_init(from_pretrained(model.checkpoint), seed + 1).weights_hash(), model)
    names = [RANDOM] if len(first) == 1 else [f"{RANDOM}, {model.name}" for model in first.values()]
    return {name: model.checkpoint for name, model in zip(names, first.values(), strict=True)}


def random_model(name: str, like: str, how: How, seed: int) -> Model:
    """Write a release of the network of a checkpoint with random weights, if it is not there, and return it."""
    folder = how.out / "models" / name
    twin = random_init(from_pretrained(like), seed + 1)
    weights = twin.weights_hash()
    if not (folder / "model.safetensors").exists() or from_pretrained(folder).weights_hash() != weights:
        save_pretrained(folder, twin.model, twin.transform, twin.config, {"weights": f"random, seed {seed + 1}"})
    return Model(name, str(folder), weights)


def supervised_commands(suite: Suite, like: PretrainedModel, how: How) -> dict[Modality, list[str]]:
    """Return the command lines that train the supervised classifiers, with the network of a checkpoint.

    There is one for each modality, from random weights: trained together, the encoder of the easier one learns the
    labels and the other one nothing.
    """
    assert suite.supervised is not None
    data, finetune = suite.data_set(suite.supervised.data), PROTOCOLS["finetune"].verb
    columns = {option: getattr(data.fields, name) or None for name, option in finetune.columns.items()}
    network = {key: "none" if value is None else value for key, value in flatten(base_of(like.config)).items()}
    options = dict(suite.supervised.entry.options)
    if "config" in options:
        options["config"] = str(suite.path.parent / str(options["config"]))
    words = [str(how.root / data.fields.manifest), "--checkpoint", "none"]
    words += option_words({**network, **columns, "train.seed": suite.fields.seed, **options})
    modalities: tuple[Modality, ...] = ("video", "audio")
    return {name: [*words, *option_words({"classifier.inputs": name})] for name in modalities}


def supervised_model(suite: Suite, like: str, how: How, *, overwrite: bool, progress: bool) -> Model:
    """Train classifiers from random weights, and return their encoders as a model; what is there is kept.

    Raises:
        OutputError: If they were trained by another command, or on other rows.
    """
    folder = how.out / "models" / SUPERVISED
    pretrained, record = from_pretrained(like), folder.with_suffix(".json")
    commands = supervised_commands(suite, pretrained, how)
    inputs: dict[str, Any] = {modality: inputs_of(words) for modality, words in commands.items()}
    if record.exists() and not overwrite:
        for modality, found in read_json(record).items():
            check_inputs(folder.with_name(f"{SUPERVISED}-{modality}"), found, inputs[modality])
    write_json(record, inputs)
    if overwrite or not (folder / "model.safetensors").exists():
        twin = random_init(pretrained, suite.fields.seed + 1)  # its heads are never used
        for modality, words in commands.items():
            run = folder.with_name(f"{SUPERVISED}-{modality}")
            _train(words, run, how, overwrite=overwrite, progress=progress)
            classifier = load_classifier(run)
            getattr(twin.model, f"{modality}_encoder").load_state_dict(classifier.model.encoders[modality].state_dict())
            if modality == "audio":  # statistics of the spectrograms of the training rows
                twin.transform.load_state_dict(classifier.transform.state_dict())
        about = {"weights": f"encoders of two classifiers of {', '.join(classifier.classes)}; the heads are random"}
        save_pretrained(folder, twin.model, twin.transform, twin.config, about)
    return Model(SUPERVISED, str(folder), from_pretrained(folder).weights_hash(), has_joint_space=False)


def _train(words: list[str], run: Path, how: How, *, overwrite: bool, progress: bool) -> None:
    """Run the verb ``finetune``, or continue it; its output is kept beside the run."""
    finetune, quiet = PROTOCOLS["finetune"].verb, [] if progress else ["--no-progress"]
    if (run / "config.yaml").exists() and not overwrite:
        words = ["--resume", str(run), *quiet]
    else:
        words = [*words, *quiet, "-o", str(run), *["--overwrite"] * overwrite]
        words += option_words({"train.device": how.device, "data.num_workers": how.num_workers})
    with run.with_suffix(".txt").open("w") as log, redirect_stdout(log):
        Verb(finetune.name, finetune.path).run(words)
