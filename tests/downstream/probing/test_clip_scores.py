import numpy as np
import pytest

from avssl.data.splits import divide
from avssl.downstream.probing import PROTOCOLS, ProbeSettings, protocol_clips, run_protocol
from avssl.hub.pretrained import from_pretrained
from avssl.synthetic import SceneSettings, Split, synthesize_corpus
from avssl.transforms.corruptions import Corruption

SCENES = SceneSettings(
    width=48, height=32, duration_seconds=1.5, sample_rate_hz=8000, object_weights=(1, 1), video_fps=8.0
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Ten clips to train on and ten to test, of two classes."""
    manifest = synthesize_corpus(
        tmp_path_factory.mktemp("shapes"),
        {"train": Split(10, SCENES), "test": Split(10, SCENES)},
        num_workers=0,
        progress=False,
    )
    table = manifest.table.append_column("half", [[str(i % 2) for i in range(20)]])
    return type(manifest)(table, manifest.root)


@pytest.mark.parametrize(("name", "numbers"), [("retrieval", 2), ("av_retrieval", 2), ("linear", 3)])
def test_clean_scores_are_those_of_the_protocol(rows, tiny_release, name, numbers):
    pretrained = from_pretrained(tiny_release)
    (division,) = divide(rows, "half")
    settings = ProbeSettings(windows_per_clip=1)
    report = run_protocol(PROTOCOLS[name], {"trained": pretrained}, rows, [division], "half", settings)
    measure = protocol_clips(PROTOCOLS[name], pretrained, rows, division, "half", settings)
    clean = measure.run(None)
    headline = PROTOCOLS[name].headline
    expected = {row["modality"]: row[headline] for row in report["rows"] if row["model"] == "trained"}
    assert len(clean) == numbers
    assert {key: values.mean() for key, values in clean.items()} == pytest.approx(expected)
    assert rows["split"][measure.rows].tolist() == ["test"] * 10 if name != "av_retrieval" else True
    chance = next(row[headline] for row in report["rows"] if row["model"] == "chance")
    assert measure.baselines["chance"] == dict.fromkeys(clean, pytest.approx(chance))


def test_corruptions_change_the_test_clips_alone(rows, tiny_release):
    pretrained = from_pretrained(tiny_release)
    (division,) = divide(rows, "half")
    measure = protocol_clips(
        PROTOCOLS["retrieval"], pretrained, rows, division, "half", ProbeSettings(windows_per_clip=1)
    )
    clean, train, test = measure.data.features, measure.data.train, measure.data.test
    for name, changed, kept in (("blur", "video", "audio"), ("audio_noise", "audio", "video")):
        found = measure._corrupted(Corruption(name, 5))
        ((layer, before),) = clean.stages[changed].items()
        assert np.array_equal(found.stages[changed][layer][train], before[train])
        assert not np.allclose(found.stages[changed][layer][test], before[test], atol=1e-4)
        ((layer, before),) = clean.stages[kept].items()
        assert np.allclose(found.stages[kept][layer], before, atol=1e-5)
    assert measure.streams == {"video": ("video",), "audio": ("audio",)}
