"""Compare a video with a waveform by an exported model, with numpy and onnxruntime alone.

    avssl export RUN -o exported
    python demos/use_onnx.py exported [frames.npy waveform.npy]

frames.npy: (3, T, H, W) RGB in [0, 1]; waveform.npy: (S,) in [-1, 1]. Without them the clip is noise.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, files, outputs = Path(sys.argv[1]), iter(sys.argv[2:]), {}
for name, tower in json.loads((folder / "export.json").read_text())["towers"].items():
    session = onnxruntime.InferenceSession(folder / tower["file"])
    (key, port), path = *tower["inputs"].items(), next(files, None)
    clip = np.load(path) if path else np.random.default_rng(0).random(port["trained_shape"])
    found = session.run(None, {key: clip[None].astype(np.float32)})
    outputs[name] = dict(zip(tower["outputs"], found, strict=True))
    print(f"{name}: {key} {clip.shape} ->", {what: value.shape for what, value in outputs[name].items()})
print(f"similarity {(outputs['video']['embedding'] @ outputs['audio']['embedding'].T).item():.4f}")
