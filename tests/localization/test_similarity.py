"""Cells of a video against audio queries, and the map at one point in time."""

import pytest
import torch
import torch.nn.functional as F

from avssl.evaluation.localization import resize_heatmaps
from avssl.localization import maps_at, upsample
from avssl.localization.similarity import at_instant, cell_similarity, smooth, sound_map
from avssl.models import unit_cells


def test_upsample_is_the_metrics_resize_on_any_leading_shape():
    maps = torch.randn(2, 3, 4, 5)
    assert torch.equal(upsample(maps, (20, 30))[1, 2], resize_heatmaps(maps[1, 2][None], (20, 30))[0])
    assert torch.equal(upsample(maps[0, 0], (20, 30)), upsample(maps, (20, 30))[0, 0])


def test_maps_at_reads_between_time_cells():
    maps = torch.arange(4.0)[None, :, None, None].expand(5, 4, 2, 2)  # the value is the cell's number
    # 16 frames, 4 cells: cell c is the middle of frames 4c .. 4c + 3, frame position 4c + 1.5.
    result = maps_at(maps, torch.tensor([0.0, 1.5, 3.5, 7.5, 15.0]), 16)[:, 0, 0]
    assert result.tolist() == pytest.approx([0, 0, 0.5, 1.5, 3])


def test_unit_cells_average_the_picture_and_its_mirror_image():
    class Biased:
        """Sees brightness, and tells left from right."""

        num_heads = 1

        def visual_cells(self, video):
            bright = video.mean(dim=1, keepdim=True)
            return torch.cat([bright, torch.linspace(-1, 1, video.shape[-1]).expand_as(bright)], dim=1)

    video, sound = torch.rand(2, 3, 4, 5, 6), torch.randn(2, 2)
    cells = unit_cells(Biased(), video)
    straight = F.cosine_similarity(Biased().visual_cells(video), sound[:, :, None, None, None])
    mirrored = F.cosine_similarity(Biased().visual_cells(video.flip(-1)), sound[:, :, None, None, None]).flip(-1)
    torch.testing.assert_close(sound_map(cells, sound[..., None]), (straight + mirrored) / 2)
    torch.testing.assert_close(unit_cells(Biased(), video.flip(-1)), cells.flip(-1))


def cells_and_queries(num_cells, num_steps, num_heads, channels=6):
    generator = torch.Generator().manual_seed(num_cells)
    cells = torch.randn(2, channels, num_cells, 3, 4, generator=generator)
    queries = torch.randn(2, channels, num_steps, generator=generator)
    cells = F.normalize(cells.unflatten(1, (num_heads, -1)), dim=2).flatten(1, 2)
    return cells, queries


# Two steps to each of 3 cells; 5 steps to 3 cells; 2 steps to 4 cells; one of either.
MOMENTS = {
    (3, 6): ([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5]),
    (3, 5): ([0, 0, 1, 2, 2], [0, 1, 2, 3, 4]),
    (4, 2): ([0, 1, 2, 3], [0, 0, 1, 1]),
    (3, 1): ([0, 1, 2], [0, 0, 0]),
    (1, 3): ([0, 0, 0], [0, 1, 2]),
}


@pytest.mark.parametrize(("num_cells", "num_steps"), MOMENTS)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_sound_map_matches_loop_reference(num_cells, num_steps, num_heads):
    cells, queries = cells_and_queries(num_cells, num_steps, num_heads)
    together, apart = sound_map(cells, queries, num_heads), cell_similarity(cells, queries, num_heads).by_head()
    assert together.shape == (2, num_cells, 3, 4)
    assert apart.shape == (2, num_heads, num_cells, 3, 4)
    size = 6 // num_heads
    for b, t, h, w in [(0, 0, 0, 0), (1, num_cells - 1, 2, 3), (0, num_cells // 2, 1, 1)]:
        heard = [step for cell, step in zip(*MOMENTS[num_cells, num_steps], strict=True) if cell == t]
        cosine = [
            [
                F.cosine_similarity(
                    cells[b, k * size : (k + 1) * size, t, h, w], queries[b, k * size : (k + 1) * size, step], dim=0
                ).item()
                for step in heard
            ]
            for k in range(num_heads)
        ]
        expected = [sum(values) / len(heard) for values in cosine]
        assert apart[b, :, t, h, w].tolist() == pytest.approx(expected, abs=1e-6)
        best = sum(max(values) for values in zip(*cosine, strict=True)) / len(heard)
        assert together[b, t, h, w].item() == pytest.approx(best, abs=1e-6)


def test_one_head_alone_is_the_map_and_the_scale_of_a_sound_does_not_matter():
    cells, queries = cells_and_queries(3, 6, 1)
    assert torch.equal(cell_similarity(cells, queries).by_head()[:, 0], sound_map(cells, queries))
    torch.testing.assert_close(sound_map(cells, 7 * queries), sound_map(cells, queries))


def test_two_sounds_at_once_lie_in_two_heads():
    # Head 0 of the left cell and head 1 of the right one fit what is heard.
    cells = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])[None, :, None, None, :]
    queries = torch.tensor([1.0, 0.0, 1.0, 0.0])[None, :, None]
    assert cell_similarity(cells, queries, 2).by_head().flatten().tolist() == [1, 0, 0, 1]
    assert sound_map(cells, queries, 2).flatten().tolist() == [1, 1]


def test_similarity_is_float32_under_autocast():
    cells, queries = cells_and_queries(3, 1, 1, channels=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = sound_map(cells, queries)
    assert half.dtype == torch.float32
    assert torch.equal(half, sound_map(cells, queries))


def test_sound_map_refuses_what_does_not_fit():
    cells, queries = cells_and_queries(3, 1, 1)
    with pytest.raises(ValueError, match=r"queries \(B, D, S\) of the same clips, got .* and \(2, 5, 1\)"):
        sound_map(cells, queries[:, :5])
    with pytest.raises(ValueError, match=r"num_heads \(4\) .* divide the embedding size \(6\)"):
        sound_map(cells, queries, 4)


def test_a_sound_as_a_whole_is_the_same_at_every_instant():
    cells, queries = cells_and_queries(4, 1, 1)
    frame = torch.tensor([0.0, 5.3])
    seen, heard = at_instant(cells, queries, frame, 8)
    assert torch.equal(heard, queries)
    assert seen.shape == (2, 6, 1, 3, 4)
    torch.testing.assert_close(sound_map(seen, heard)[:, 0], maps_at(sound_map(cells, queries), frame, 8))


def test_what_is_heard_at_an_instant_is_heard_in_its_cell():
    cells, _ = cells_and_queries(4, 8, 2)
    queries = torch.arange(8.0).expand(2, 6, 8)  # step s is s; a cell of 2 frames hears 2c and 2c + 1
    frame = torch.tensor([0.5, 3.5])  # the middle of cell 0, and halfway between cells 1 and 2
    seen, heard = at_instant(cells, queries, frame, 8)
    assert heard[:, 0, 0].tolist() == [0.5, 3.5]
    torch.testing.assert_close(seen[0, :, 0], cells[0, :, 0])
    torch.testing.assert_close(seen[1, :, 0], (cells[1, :, 1] + cells[1, :, 2]) / 2)


def test_smooth_spreads_a_spot_and_keeps_peak_and_constants():
    spot = torch.zeros(1, 5, 6)
    spot[0, 2, 3] = 1.0
    once = smooth(spot, 1)
    assert once[0, 1:4, 2:5].flatten().mul(16).tolist() == [1, 2, 1, 2, 4, 2, 1, 2, 1]
    torch.testing.assert_close(smooth(spot, 2), smooth(smooth(spot, 1), 1))
    corner = torch.zeros(1, 4, 4)
    corner[0, 3, 0] = 1.0
    for picture in (spot, corner):
        assert smooth(picture).flatten().argmax() == picture.flatten().argmax()
    torch.testing.assert_close(smooth(torch.full((2, 3, 4), 0.3)), torch.full((2, 3, 4), 0.3))
