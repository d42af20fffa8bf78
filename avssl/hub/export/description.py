"""Inputs and outputs of exported files, as ``export.json`` for programs and ``README.md`` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avssl.core.version import __version__
from avssl.core.whole_file import write_text
from avssl.hub.export.programs import TOLERANCE, Format, Written
from avssl.hub.export.towers import Port
from avssl.reports.text_table import markdown_table

DESCRIPTION_NAME, README_NAME = "export.json", "README.md"
_HOW = {
    "onnx": """```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("{file}")
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(None, {{"{input}": np.zeros({shape}, np.float32)}})))
```""",
    "pt2": """```python
import torch

module = torch.export.load("{file}").module()
outputs = module(torch.zeros({shape}))
```""",
}


def describe(
    form: Format, files: Sequence[Written], prepared: Mapping[str, Any], license_id: str | None, **more: Any
) -> dict[str, Any]:
    """Return the content of ``export.json``.

    Args:
        form: Format of the files.
        files: The files.
        prepared: Preprocessing of the model, from :func:`avssl.hub.model_input.describe_input`.
        license_id: License of the weights, if the card of the release names one.
        **more: Facts of the model, such as ``num_heads``.
    """
    return {
        "avssl_version": __version__,
        "format": form,
        "license": license_id,
        **more,
        "towers": {
            each.tower.name: {
                "file": each.path.name,
                "inputs": {port.name: _plain(port, each.inputs[port.name]) for port in each.tower.inputs},
                "fixed": each.fixed,
                "outputs": {port.name: _plain(port, port.dims) for port in each.tower.outputs},
                "check": {"input_shapes": each.checked, "largest_difference": each.difference, "tolerance": TOLERANCE},
            }
            for each in files
        },
        "input": prepared,
    }


def _plain(port: Port, shape: Sequence[str | int]) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": list(shape), "dtype": "float32", "content": port.content}
    if port.size:
        found["trained_shape"] = list(port.size)
    for key, limits in (("multiple_of", port.multiples), ("at_most", port.most)):
        if free := {name: limit for name, limit in limits.items() if name in shape}:
            found[key] = free
    return found


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``README.md`` and ``export.json``."""
    rows = [
        [tower["file"], kind, name, str(port["shape"]).replace("'", ""), port["content"]]
        for tower in content["towers"].values()
        for kind in ("inputs", "outputs")
        for name, port in tower[kind].items()
    ]
    first = next(iter(content["towers"].values()))
    name, port = next(iter(first["inputs"].items()))
    how = _HOW[content["format"]].format(file=first["file"], input=name, shape=(1, *port["trained_shape"]))
    lines = [
        f"# {content['model']}",
        f"Exported by avssl {content['avssl_version']} as {content['format']}; all numbers of the preprocessing are in "
        f"`{DESCRIPTION_NAME}`. License of the weights: {content['license'] or 'not named by the release'}.",
        markdown_table(["file", "", "name", "shape", "float32 values"], rows),
        how,
    ]
    if "video" in content["towers"]:
        lines.append(
            "The cosine of the two embeddings says how well video and audio fit. For a heat map, multiply the video's "
            "`map` with the audio's `query` and sum over the channels of each group: cosines of every cell; the best "
            "group is shown. avssl also averages the map with that of the mirrored frames."
        )
    write_text(folder / README_NAME, "\n\n".join(lines) + "\n")
    write_text(folder / DESCRIPTION_NAME, json.dumps(content, indent=2) + "\n")
