"""The whole table, of a model whose answers are known, and of one that knows nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from avssl.config import Config
from avssl.core.manifest import ManifestError
from avssl.data.sampling import ClipSampling
from avssl.downstream.localization import maps, measure_localization
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.partners import Partners
from avssl.downstream.localization.rows import find_instants
from avssl.models import ClipEncoder

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


class Listener(nn.Module):
    """Left cells answer to loud sounds and right ones to quiet ones; silence is the zero vector."""

    num_heads = 1

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.video_encoder = SimpleNamespace(forward_features=lambda video: self.visual_cells(video)[:, :1])

    def visual_cells(self, video):
        cells = torch.zeros(len(video), 2, 1, 4, 8)
        cells[:, 0, :, :, :4] = cells[:, 1, :, :, 4:] = 1
        # The picture seen in a mirror has its sides exchanged, as pixels would.
        return cells.flip(-1) if video[0, 0, 0, 0, 0] > video[0, 0, 0, 0, -1] else cells

    def sound_queries(self, audio):
        level = audio.square().mean(dim=(1, 2, 3)).sqrt()
        return torch.stack([level > 0.3, (level > 0) & (level <= 0.3)], dim=1).float()[..., None]


class Deaf(Listener):
    """Left, whatever is heard."""

    def sound_queries(self, audio):
        return torch.tensor([1.0, 0.0]).expand(len(audio), -1)[..., None]


class Transform:
    training = False
    video_eval = SimpleNamespace(crop="full")

    def video_input(self, video, valid_hw, chroma):
        return torch.linspace(0, 1, 8).expand(len(video), 3, 1, 8, 8)

    def audio_input(self, waveform):
        return waveform[:, None, :, None]


@pytest.fixture
def listener(monkeypatch):
    """As a loaded release, whose untrained twin is deaf."""

    def make(model):
        return SimpleNamespace(
            model=model,
            transform=Transform(),
            sampling=ClipSampling(num_frames=1, frames_per_second=1.0, audio_seconds=0.5, sample_rate_hz=8000),
            config=Config(),
            source="listener",
            encoder=lambda: ClipEncoder(model.eval(), Transform()),
            weights_hash=lambda: "0" * 16,
        )

    monkeypatch.setattr(maps, "random_init", lambda like, seed: make(Deaf()))
    return make(Listener())


def test_a_model_that_listens_has_the_table_it_should(listener, pairs):
    found = measure_localization(listener, pairs.manifest(), seed=1, progress=False)
    rows = found.rows
    assert list(rows)[:6] == [
        "trained model", "shuffled audio", "silence", "noise", "random-init model", "image only, own tower",
    ]  # fmt: skip
    assert {row["n"] for row in rows.values()} == {4}
    pointing = {name: row["pointing"] for name, row in rows.items()}
    assert pointing["trained model"] == 1
    assert pointing["silence"] == pointing["whole frame"] == 0.5  # a constant map points at half of the frame
    assert pointing["noise"] == pointing["random-init model"] == 0.5  # one side for both sounds: right once
    assert pointing["mean truth of other clips"] == 0.5  # both halves have been on either side
    assert rows["trained model"]["iiou_adaptive"] == 1
    for name in ("silence", "noise", "random-init model", "center blob", "random map"):
        assert rows[name]["iiou_adaptive"] == 0, name
    assert found.differences["silence"]["iiou_adaptive"] == {"difference": 1.0, "interval": (1.0, 1.0)}
    assert found.negative_audio["by_sound"]["silence"]["pia"] == 0
    assert found.rejection == found.masks == found.prompted == {}
    about = found.about
    assert (about["n"], about["num_pairs"], about["n_without_source"], about["left_out"]) == (4, 2, 0, {})
    assert about["rules"] == {"adaptive": {"resize": "bilinear"}, "ezvsl": {"resize": "bilinear_corners"}}
    assert about["share_from_a_quarter"] == 1
    assert (about["truth_size"], about["map"]["cells"]) == ([224, 224], [4, 8])
    assert about["clip_list"] == pairs.manifest().hash()


def test_a_deaf_model_is_seen_to_be_deaf(listener, pairs):
    listener.encoder = lambda: ClipEncoder(Deaf().eval(), Transform())
    found = measure_localization(listener, pairs.manifest(), progress=False)
    for name in ("shuffled audio", "silence", "noise"):
        for score, value in found.rows["trained model"].items():
            assert found.rows[name][score] == value
        assert all(each["difference"] == 0 for each in found.differences[name].values())
    assert found.rows["trained model"]["iiou_adaptive"] == 0


def test_silent_rows_are_rejected_by_a_model_that_listens(listener, pairs):
    for number in range(3):
        pairs.row(f"n{number}", f"n{number}", [], loudness=0.0)
    found = measure_localization(listener, pairs.manifest(), progress=False)
    assert (found.about["n"], found.about["n_without_source"]) == (4, 3)
    assert len(found.instants) == len(found.maps["silence"]) == 4
    ours, twin = found.rejection["trained model"], found.rejection["random-init model"]
    assert (ours["ap_peak"], ours["loc_acc_adaptive"]) == (1, 1)
    assert twin["ap_peak"] == pytest.approx(twin["share_of_sources"]) == pytest.approx(4 / 7)


def test_the_object_prior_is_a_row_of_its_own(listener, pairs):
    plain = measure_localization(listener, pairs.manifest(), progress=False)
    fused = measure_localization(listener, pairs.manifest(), object_prior="own", map_weight=0.0, progress=False)
    name = "trained model + own object prior, map weight 0"
    assert fused.rows.keys() - plain.rows.keys() == {name}
    assert {key: row for key, row in fused.rows.items() if key != name} == plain.rows
    # Without any of the trained map it is the prior, which shows the left side.
    assert fused.rows[name]["pointing"] == fused.rows["image only, own tower"]["pointing"] == 0.5
    assert fused.about["object_prior"] == {"source": "own", "map_weight": 0.0}
    all_trained = measure_localization(listener, pairs.manifest(), object_prior="own", map_weight=1.0, progress=False)
    assert all_trained.rows["trained model + own object prior, map weight 1"]["pointing"] == 1


def test_files_that_cannot_be_read_are_left_out_and_counted(listener, pairs, tmp_path):
    pairs.row("broken", "c", [LEFT])
    pairs.row("mute", "d", [LEFT], audio_path=None)
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = measure_localization(listener, pairs.manifest(), progress=False)
    assert found.about["left_out"] == {"video: unreadable": 1, "audio: no_audio": 1}
    assert (found.rows["trained model"]["n"], found.num_left_out) == (4, 2)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ManifestError, match=r"no instant with a visible source can be read \(6 x video: unreadable\)"):
        measure_localization(listener, pairs.manifest(), progress=False)


def test_maps_do_not_depend_on_the_batch(pretrained, shapes):
    rows = shapes.select(np.flatnonzero(shapes["split"] != "pairs"))
    instants, _ = find_instants(rows, pretrained.sampling.video_seconds)
    clips, partners = InstantClips(rows, pretrained.sampling), Partners(rows, instants, 0)
    one, many = (maps.compute_maps(pretrained, clips, instants, partners, batch_size=size).maps for size in (1, 5))
    assert one.keys() == many.keys()
    for name in one:
        assert torch.allclose(one[name], many[name], atol=1e-4), name


def test_shapes_have_every_row(pretrained, shapes):
    found = measure_localization(pretrained, shapes, rules=("lvs",), progress=False)
    assert list(found.rows) == [
        "trained model", "shuffled audio", "silence", "noise", "random-init model", "image only, own tower",
        "center blob", "mean truth of other clips", "random object", "random map", "whole frame",
    ]  # fmt: skip
    assert found.rows["random object"]["pointing"] > found.rows["random map"]["pointing"]
    assert found.about["splits"] == {"several": 4, "pairs": 4, "absent": 4}
    assert found.about["n"] + found.about["n_without_source"] + found.num_left_out == 12
    assert found.rejection.keys() == {"trained model", "random-init model", "image only, own tower"}
    assert found.masks.keys() >= {"trained model", "silence", "center blob", "whole frame"}
    assert found.masks["trained model"]["n"] == len(found.instants) + found.about["n_without_source"]
    assert found.prompted.keys() == found.masks.keys()
    tables = [found.rows, found.masks, found.prompted]
    assert all(math.isfinite(value) for table in tables for row in table.values() for value in row.values())


def test_what_would_fail_late_is_refused_at_once(pretrained, release, shapes):
    from avssl.hub.pretrained import from_pretrained

    with pytest.raises(ValueError, match=r"unknown rule 'median'; the rules are lvs, ezvsl"):
        measure_localization(pretrained, shapes, rules=("adaptive", "median"))
    with pytest.raises(ValueError, match="name at least one rule"):
        measure_localization(pretrained, shapes, rules=())
    with pytest.raises(ValueError, match=r"map_weight \(1\.5\) must be in \[0, 1\]"):
        measure_localization(pretrained, shapes, map_weight=1.5)
    with pytest.raises(ValueError, match=r"none\.pth: no such file"):
        measure_localization(pretrained, shapes, object_prior="none.pth")
    with pytest.raises(ValueError, match='crop="full"'):
        measure_localization(from_pretrained(release), shapes)
