"""Write docs/objectives.md: one table of all objectives, from their files, their configurations and the measured rows.

python docs/make_objectives.py            # write the page
python docs/make_objectives.py --check    # exit with status 1 if the page is out of date
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import sys
from pathlib import Path

from avssl.objectives import OBJECTIVES

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "objectives.md"
ROWS = REPOSITORY / "benchmarks" / "results"

FORMULAS = {
    "avid": "softmax (or NCE) of v·a_i against K rows of a memory",
    "barlow_twins": "Σ (1 − C_dd)² + λ Σ C_de², C the correlation of video and audio dimensions",
    "byol": "2 − 2 cos(predictor(v), target(a)), both ways",
    "cav_mae": "0.01 InfoNCE + ‖decoder(visible patches) − masked patches‖²",
    "cma": "AVID + the same loss for positives that agree in both modalities",
    "dense_av": "InfoNCE of Σ_t max_cell max_head cos(cell, audio_t)",
    "dino": "−Σ_k softmax((t_k − c_k)/τ_t) log softmax(s_k/τ_s)",
    "fnac": "EZ-VSL's loss + ‖affinity(audio) − affinity(pair)‖ + ‖affinity(image) − affinity(pair)‖ + foreground",
    "framewise": "InfoNCE over the moments of a clip (or of a batch)",
    "info_nce": "−log e^(v_i·a_i/τ) / Σ_j e^(v_i·a_j/τ), both ways; on pooled embeddings, the best cell, or both",
    "joint": "sigmoid loss of (video, audio), (video, both), (audio, both)",
    "lvs": "InfoNCE of the positive region, with its own negative region and hard negatives",
    "margin_nce": "InfoNCE with s_ii − m",
    "mjepa": "‖predictor(visible patches of one) − target(all patches of the other)‖²",
    "moco": "InfoNCE against a queue of a slow model's embeddings",
    "robust_xid": "weighted AVID with soft targets",
    "selavi": "cross-entropy with labels of optimal transport, in several heads",
    "siglip": "−log sigmoid(±(scale v_i·a_j + bias)) of every pair",
    "sigreg": "‖v − a‖² + λ Epps–Pulley(random directions of v and of a, N(0, 1))",
    "simsiam": "−cos(predictor(v), stop(a)), both ways",
    "slavc": "InfoNCE of log Σ_cell P_which P_where, with slow targets",
    "ssl_tie": "loss of LVS or InfoNCE + ‖warp(map) − map(warp)‖²",
    "swav": "cross-entropy of p(a) with Sinkhorn(v), and of p(v) with Sinkhorn(a)",
    "vicreg": "λ ‖v − a‖² + μ Σ max(0, 1 − std) + ν Σ cov²",
    "xdc": "cross-entropy with the k-means clusters of the other modality",
}
"""Each loss in a line; the docstring of the file has it exactly."""

MEASURED = {
    "avid": ("objectives", "Cross-AVID (= xID)"),
    "barlow_twins": ("objectives", "Barlow Twins"),
    "byol": ("objectives", "BYOL"),
    "cma": ("objectives", "CMA"),
    "dino": ("objectives", "DINO"),
    "info_nce": ("objectives", "InfoNCE, pooled + best cell"),
    "joint": ("objectives", "Joint head (PE-AV)"),
    "moco": ("objectives", "MoCo"),
    "robust_xid": ("objectives", "Robust-xID"),
    "selavi": ("objectives", "SeLaVi"),
    "sigreg": ("objectives", "SIGReg (LeJEPA)"),
    "simsiam": ("objectives", "SimSiam"),
    "swav": ("objectives", "SwAV"),
    "vicreg": ("objectives", "VICReg"),
    "xdc": ("objectives", "XDC"),
    "lvs": ("localization", "LVS"),
    "slavc": ("localization", "SLAVC"),
    "fnac": ("localization", "FNAC"),
    "ssl_tie": ("localization", "SSL-TIE"),
    "dense_av": ("localization", "DenseAV, 2 heads"),
}
"""File of rows and method of the row of each objective."""

INTRODUCTION = """\
# Objectives

Made by `python docs/make_objectives.py` from the code and the measured rows; do not edit it by hand.
`--objective.name NAME` chooses an objective, `avssl pretrain --help-all` lists its options, and
`avssl.create_objective("NAME")` builds it in Python. v and a are the embeddings of video and audio.

R@10 and pointing are means over seeds on SoundingShapes, a generated world. Rows of *recognition* are comparable with
each other, and so are rows of *localization*. The two groups differ in clips, encoders and length. With deviations,
baselines and commands: [results](results.md).

| name | what | source | loss | settings | comparison | R@10 | pointing | seeds |
| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: |
"""

END = """
A dash: not in that comparison. `cav_mae` and `mjepa` need vision transformers, and `framewise` is measured by time:
see [more objectives](results_objectives.md) and [everyday jobs](results_jobs.md#is-the-audio-in-sync).

## Which one?

- **Heat maps:** `info_nce` with `pooling both`, the default, or `dense_av` for two sources at once.
- **Retrieval and recognition:** `info_nce`, or `sigreg` and `vicreg` where batches are small.
- **Many faulty pairs:** `cma`, started from an `avid` run.
- **Timing:** `framewise`.
- **Large vision transformers:** `cav_mae`, whose steps are cheaper, since hidden patches pass no encoder.

What an own objective needs: [contributing](../CONTRIBUTING.md).
"""


def page() -> str:
    """Return the page."""
    return INTRODUCTION + "\n".join(_line(name) for name in sorted(OBJECTIVES)) + "\n" + END


def _line(name: str) -> str:
    module = OBJECTIVES[name].partition(":")[0]
    path = Path(*module.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))) or ""
    what = text.split("\n\n")[0].partition(": ")[2].rstrip(".") or text.split("\n\n")[0].rstrip(".")
    papers = re.findall(r"https://arxiv\.org/abs/([\d.]+\d)", text)
    source = ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in dict.fromkeys(papers[:2]))
    config = f"[yaml](../configs/soundingshapes_{'cpu' if name == 'info_nce' else name}.yaml)"
    numbers = " | ".join(_numbers(name))
    return f"| [`{name}`](../{path.as_posix()}) | {what} | {source} | {FORMULAS[name]} | {config} | {numbers} |"


def _numbers(name: str) -> list[str]:
    """Return group, R@10, pointing and number of seeds of the final rows."""
    if name not in MEASURED:
        return ["–"] * 4
    file, method = MEASURED[name]
    lines = (ROWS / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["method"] == method and row.get("stage", "final") == "final"]
    if not rows:
        return ["–"] * 4
    cells = []
    for key in ("R@10", "pointing"):
        values = [row[key] for row in rows if key in row]
        cells.append(f"{statistics.mean(values):.3f}" if values else "–")
    return ["recognition" if file == "objectives" else file, *cells, str(len(rows))]


def main() -> None:
    """Write or check the page."""
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
