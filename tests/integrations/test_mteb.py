"""mteb's own program evaluates a release on tasks of a few clips that the test makes."""

import numpy as np
import pytest
import torch

from avssl.hub.pretrained import from_pretrained
from avssl.media import write_video

pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")
pytest.importorskip("torchcodec", exc_type=(ImportError, OSError, RuntimeError))
import mteb  # noqa: E402
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from avssl.core.errors import InputError  # noqa: E402
from avssl.integrations.mteb import load  # noqa: E402

NUM_CLIPS, RATE_HZ = 6, 8000


@pytest.fixture(scope="module")
def model(tiny_release):
    return load(tiny_release)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Clips of 1.5 s as Hugging Face decodes them: gray levels with tones of two classes."""
    folder, generator = tmp_path_factory.mktemp("clips"), torch.Generator().manual_seed(0)
    paths = []
    for i in range(NUM_CLIPS):
        frames = torch.randint(0, 256, (12, 3, 4, 5), generator=generator, dtype=torch.uint8)
        frames = frames.repeat_interleave(10, dim=2).repeat_interleave(10, dim=3)
        times = torch.arange(12_000) / RATE_HZ
        tone = torch.sin(2 * torch.pi * (300 + 200 * i) * times)[None]
        paths.append(str(folder / f"{i}.mp4"))
        write_video(paths[-1], frames, 8.0, tone, RATE_HZ)
    content = {"id": [str(i) for i in range(NUM_CLIPS)], "video": paths, "audio": paths}
    table = datasets.Dataset.from_dict(content | {"label": [i % 2 for i in range(NUM_CLIPS)]})
    return table.cast_column("video", datasets.Video()).cast_column("audio", datasets.Audio())


def metadata(name, kind, category, modalities, score):
    about = {"path": "none", "revision": "0"}
    return TaskMetadata(
        name=name,
        description="Clips of a test.",
        reference=None,
        dataset=about,
        type=kind,
        category=category,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        modalities=modalities,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def retrieval(rows, queries, documents):
    """Return a task that finds the documents of the same clips."""
    letters = {"video": "v", "audio": "a"}
    category = "2".join("".join(letters[name] for name in side) for side in (queries, documents))

    class Retrieval(AbsTaskRetrieval):
        metadata = globals()["metadata"](
            f"Clips{category}", "Any2AnyRetrieval", category, sorted({*queries, *documents}), "ndcg_at_10"
        )

        def load_data(self, num_proc=None, **kwargs):
            pairs = {str(i): {str(i): 1} for i in range(NUM_CLIPS)}
            sought, offered = (rows.select_columns(["id", *side]) for side in (queries, documents))
            split = RetrievalSplitData(queries=sought, corpus=offered, relevant_docs=pairs, top_ranked=None)
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Retrieval()


def classification(rows, columns):
    """Return a task whose labels a logistic regression predicts from the embeddings."""

    class Classification(AbsTaskClassification):
        metadata = globals()["metadata"](
            "ClipClasses" + "".join(columns), "VideoClassification", "v2c", list(columns), "accuracy"
        )
        input_column_name = columns if len(columns) > 1 else columns[0]
        label_column_name = "label"
        samples_per_label = 2
        n_experiments = 2

        def load_data(self, num_proc=None, **kwargs):
            self.dataset = datasets.DatasetDict({"train": rows, "test": rows})
            self.data_loaded = True

    return Classification()


def evaluate(model, task):
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return result.task_results[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sides", [("audio", "video"), ("video", "audio")])
def test_mteb_scores_retrieval_as_the_embeddings_rank(model, rows, sides):
    score = evaluate(model, retrieval(rows, *([side] for side in sides))).get_score()
    query, found = (embed(model, rows, [side]) for side in sides)
    similarity = query @ found.T
    ranks = (similarity > np.diag(similarity)[:, None]).sum(axis=1)
    assert score == pytest.approx(np.mean(1 / np.log2(2 + ranks)), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_mteb_finds_clips_by_their_joint_embeddings(model, rows):
    both = ["video", "audio"]
    assert evaluate(model, retrieval(rows, both, both)).get_score() == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("columns", [("video",), ("audio",), ("video", "audio")])
def test_mteb_classifies(model, rows, columns):
    assert 0 <= evaluate(model, classification(rows, columns)).get_score() <= 1


def embed(model, rows, columns, num_workers=0):
    """Return the embeddings of some columns, as mteb requests them."""
    loader = torch.utils.data.DataLoader(rows.select_columns(list(columns)), batch_size=4, num_workers=num_workers)
    task = retrieval(rows, ["audio"], ["video"]).metadata
    return model.encode(loader, task_metadata=task, hf_split="test", hf_subset="default", show_progress_bar=False)


def test_embeddings_are_those_of_the_files(model, rows, tiny_release):
    """Frames and audio that mteb decodes give what the library's own reader gives, up to codecs and resampling."""
    from avssl.features.embed import table_of_files

    embeddings = {name: embed(model, rows, [name]) for name in ("video", "audio")}
    joint = embed(model, rows, ["video", "audio"])
    assert all(e.shape == (NUM_CLIPS, model.mteb_model_meta.embed_dim) for e in (*embeddings.values(), joint))
    np.testing.assert_allclose(np.linalg.norm(joint, axis=1), 1, atol=1e-5)
    paths = [row["path"] for row in rows.cast_column("audio", datasets.Audio(decode=False))["audio"]]
    folder, names = paths[0].rpartition("/")[0], [path.rpartition("/")[2] for path in paths]
    table, failures = table_of_files(from_pretrained(tiny_release), folder, names, every_seconds=0.5)
    assert failures == []
    for name, found in embeddings.items():
        windows = getattr(table, name).reshape(NUM_CLIPS, 2, -1).mean(axis=1)
        expected = windows / np.linalg.norm(windows, axis=1, keepdims=True)
        assert (found * expected).sum(axis=1).min() > 0.99


@pytest.mark.filterwarnings("ignore")
def test_the_loaders_processes_decode(model, rows):
    np.testing.assert_array_equal(embed(model, rows, ["video", "audio"], 1), embed(model, rows, ["video", "audio"]))


def test_rows_may_lack_a_modality(model, rows):
    (whole,) = model._decoded([rows[0]])
    heard = model._embed(whole | {"video": None})
    np.testing.assert_allclose(heard.numpy(), embed(model, rows, ["audio"])[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="neither video nor audio"):
        model._embed({"video": None, "audio": None})


def test_the_description_keeps_models_apart(model, tiny_release):
    meta = model.mteb_model_meta
    assert meta.name == f"avssl/{tiny_release.name}"
    assert meta.revision == from_pretrained(tiny_release).weights_hash()
    assert meta.modalities == ["video", "audio"]
    assert meta.load_model().mteb_model_meta.revision == meta.revision


def test_rows_that_a_model_cannot_embed_are_named(model, rows):
    mixed = rows.add_column("text", ["a"] * NUM_CLIPS)
    with pytest.raises(InputError, match="rows of audio and text"):
        embed(model, mixed, ["audio", "text"])
