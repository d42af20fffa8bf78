"""The verb ``export``: a model as files that run without avssl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from avssl.core.claimed_verb import writes_folder
from avssl.core.outputs import FolderKind
from avssl.core.progress import Bar
from avssl.core.version import __version__
from avssl.hub.card import read_card
from avssl.hub.classifier import load_classifier
from avssl.hub.export.description import DESCRIPTION_NAME, README_NAME, describe, write_description
from avssl.hub.export.programs import TOLERANCE, check_packages, convert, write
from avssl.hub.export.towers import Tower, tower_of_classifier, towers_of
from avssl.hub.model_input import describe_input
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import CLASSIFIER, find_release, release_kind

_NAMES, _ENDINGS = ("video", "audio", "classifier"), ("onnx", "onnx.data", "pt2")
_FILES = tuple(f"{name}.{ending}" for name in _NAMES for ending in _ENDINGS)


@writes_folder(
    FolderKind("an export", (*_FILES, README_NAME, DESCRIPTION_NAME), complete=DESCRIPTION_NAME), reads=("run",)
)
def export(
    run: Path | str,
    *,
    out: Path | str,
    format: Literal["onnx", "pt2"] = "onnx",
    spectrogram: Literal["inside", "outside"] = "inside",
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Export a model to files that run without avssl: ONNX, or programs of torch.export.

    A pretrained model gives two files, ``video`` and ``audio``, each with its projection head: they return the
    embedding of a clip, which is compared between the two, and the map of embeddings that heat maps are made of. A
    fine-tuned classifier gives one file, which returns the logits. Batches are of any size, and so are the length of a
    clip and the size of its frames, as far as the network allows: what it does not is printed with the reason, and is
    in ``export.json`` as ``fixed``. Adapters (LoRA) are merged into the weights.

    The files take RGB frames in [0, 1] and waveforms in [-1, 1]: normalization and spectrogram are inside. Each file
    is read back and compared with the model on random clips of two shapes; a difference above 1e-4 is an error.
    ``export.json`` and ``README.md`` hold names, shapes, units, sample rate, and the license of the weights.
    ``demos/use_onnx.py`` runs them with numpy and onnxruntime alone.

    Args:
        run: A run directory, its weights folder, or hf-hub:OWNER/NAME; a pretrained model or a classifier.
        out: Folder of the files, created if missing.
        format: "onnx" (needs the extra avssl[export]), or "pt2", which torch loads without avssl.
        spectrogram: "inside": the audio input is the waveform. "outside": it is the spectrogram before its
            standardization, for devices that compute it themselves.
        overwrite: Replace an earlier export in the folder.
        progress: Show a progress bar.

    Returns:
        The content of ``export.json``.

    Raises:
        HubError: If there is no model at ``run``, a package is missing, or the network cannot be exported. Nothing is
            written then.
        RunError: If a file does not return what the model returns.
        OutputError: If ``out`` holds something else, or another process writes it.
    """
    check_packages(format)
    folder, out = find_release(run), Path(out)
    towers, prepared, more = _towers(run, spectrogram)
    metadata, _ = read_card(folder)
    license_id = metadata.get("license")
    about = {"avssl_version": __version__, "license": str(license_id), "weights": more["weights"]}
    programs, files = [], []
    with Bar(total=2 * len(towers), desc="export", unit="step", show=progress) as bar:
        for tower in towers:  # all of them before the first is written
            programs.append(convert(tower, format, about))
            bar.update()
        out.mkdir(parents=True, exist_ok=True)
        for program in programs:
            files.append(write(program, out / f"{program.tower.name}.{format}"))
            bar.update()
    content = describe(format, files, prepared, license_id, **more)
    write_description(out, content)
    for each in files:
        inputs = ", ".join(f"{name} {tuple(shape)}".replace("'", "") for name, shape in each.inputs.items())
        print(f"{each.path}: {inputs} -> {', '.join(port.name for port in each.tower.outputs)}")
        for reason in dict.fromkeys(each.fixed.values()):
            names = ", ".join(name for name, why in each.fixed.items() if why == reason)
            print(f"  fixed {names}: {reason}")
        shapes = " and ".join(str(shape[0] if len(shape) == 1 else shape) for shape in each.checked)
        print(f"  equal to the model within {each.difference:.1e} on random input {shapes}; {TOLERANCE:g} is accepted")
    print(f"license: {license_id or 'not named by the release; ask its authors before you share the files'}")
    print(f"names, shapes and units: {out / DESCRIPTION_NAME}")
    return content


def _towers(
    run: Path | str, spectrogram: Literal["inside", "outside"]
) -> tuple[list[Tower], dict[str, Any], dict[str, Any]]:
    """Return the towers of a release, its preprocessing, and facts about the model."""
    if release_kind(run) == CLASSIFIER:
        classifier = load_classifier(run)
        facts: dict[str, Any] = {
            "model": f"{len(classifier.classes)} classes",
            "weights": classifier.weights_hash(),
            "classes": classifier.classes,
            "multi_label": classifier.config.labels.multi_label,
            "temperature": classifier.calibration.temperature,
        }
        prepared = describe_input(classifier.config.network(), classifier.config.test.crop)
        return [tower_of_classifier(classifier, spectrogram)], prepared, facts
    pretrained = from_pretrained(run)
    names = pretrained.config.model
    facts = {
        "model": f"{names.video.name} + {names.audio.name}",
        "weights": pretrained.weights_hash(),
        "num_heads": pretrained.model.num_heads,
    }
    return towers_of(pretrained, spectrogram), describe_input(pretrained.config), facts
