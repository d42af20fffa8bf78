"""avssl localize-eval, from a manifest with boxes to its files."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torchvision.models import resnet18

from avssl.cli import main
from avssl.core.manifest import Manifest, ManifestError
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.recipes.localize_eval import localize_eval


@pytest.fixture(scope="module")
def boxed(video_maker, tmp_path_factory):
    """Six videos: five with a box in the middle, one whose source is off screen."""
    root = tmp_path_factory.mktemp("boxed")
    names = [f"clip{number}" for number in range(6)]
    truth = []
    for number, name in enumerate(names):
        video_maker(root / f"{name}.mp4", number)
        boxes = [TruthBox((0.1 * number, 0.2, 0.1 * number + 0.4, 0.9))] if number < 5 else []
        truth.append(write_boxes(root, "boxed", name, [TruthFrame(1.0, boxes)]))
    columns = {"id": names, "path": [f"{name}.mp4" for name in names], "truth": truth, "label": ["tone"] * 6}
    columns["split"] = ["test"] * 6
    Manifest.from_columns(columns, root).write(root / "manifest.csv")
    return root / "manifest.csv"


def test_tables_numbers_and_page_are_written(boxed, run, tmp_path, capsys):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    out = tmp_path / "out"
    words = [str(boxed), "--checkpoint", str(run), "--rules", "adaptive", "sslalign", "--split", "test", "-o", str(out)]
    words += ["--object_prior", str(tmp_path / "resnet18.pth"), "--num-examples", "2", "--device", "cpu"]
    assert main(["localize-eval", *words]) == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "results.json").read_text())
    rows = found["rows"]
    assert {"trained model", "image only, ImageNet ResNet-18", "mean truth of other clips"} <= rows.keys()
    assert "trained model + ImageNet object prior, map weight 0.4" in rows
    assert (found["about"]["n"], found["about"]["n_without_source"]) == (5, 1)
    assert found["about"]["rules"].keys() == {"adaptive", "sslalign"}
    assert "without boxes" in found["selection"]
    # The printed table, the written table and the numbers agree.
    row = rows["center blob"]
    shown = [f"{100 * row[key]:.1f}" for key in ("pointing", "ciou_success_adaptive", "ciou_mean_adaptive")]
    assert re.search(r"\ncenter blob +5 +" + " +".join(map(re.escape, shown)), printed)
    written = (out / "table.md").read_text()
    low, high = (f"{100 * value:.1f}" for value in found["intervals"]["center blob"]["pointing"])
    assert f"| center blob | 5 | {shown[0]} [{low}, {high}] | {shown[1]} [" in written
    for text in (printed, written):
        for told in ("5 instants with a visible source, 1 without", "resize bilinear", "clip list", "seed 0"):
            assert told in text
    assert "overlap: none of 6 test clips is trained on" in printed or "6 test clips" in printed
    assert found["about"]["overlap"]["num_test"] == 6
    assert "test clips" in written
    page = (out / "index.html").read_text()
    assert page.count("<figure>") == 2
    assert "clip0 at 1.00 s: tone." in page
    assert "data:image/png;base64," in page
    assert f"page and numbers: {out}" in printed


def test_equal_settings_give_equal_numbers(boxed, run, tmp_path):
    one, two, other = (
        localize_eval(
            boxed,
            checkpoint=run,
            out=tmp_path / "out",
            rules=["ezvsl"],
            seed=seed,
            num_examples=0,
            progress=False,
            overwrite=seed == 2,
        )
        for seed in (1, 1, 2)
    )
    assert one.rows == two.rows
    assert one.intervals == two.intervals
    assert one.rows["random map"] != other.rows["random map"]
    assert one.rows["trained model"] == other.rows["trained model"]
    assert "<figure>" not in (tmp_path / "out" / "index.html").read_text()


def test_rows_that_cannot_be_scored_raise(boxed, run, tmp_path, videos):
    assert main(["localize-eval", str(boxed)]) == 2
    bare = Manifest.from_columns({"id": ["a"], "path": ["a.mp4"]}, tmp_path)
    bare.write(tmp_path / "bare.csv")
    with pytest.raises(ManifestError, match=r"bare\.csv: there is no column truth.*avssl synthesize"):
        localize_eval(tmp_path / "bare.csv", checkpoint=run, out=tmp_path / "out")
    with pytest.raises(ManifestError, match="no row has split 'val'; the manifest has test"):
        localize_eval(boxed, checkpoint=run, out=tmp_path / "out", split="val")
    with pytest.raises(ValueError, match="unknown rule 'mean'"):
        localize_eval(boxed, checkpoint=run, out=tmp_path / "out", rules=["mean"])
    assert not (tmp_path / "out").exists()
