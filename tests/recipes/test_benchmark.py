"""Suites: what their files may say, that every cell is the number of its verb, and that they resume."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from avssl.cli import main
from avssl.config import Config, ConfigError, config_from_dict, to_dict
from avssl.core.data_files import read_json
from avssl.core.errors import AvsslError
from avssl.core.lock import OutputError
from avssl.core.manifest import Manifest
from avssl.core.whole_file import write_json
from avssl.features import extract
from avssl.hub.pretrained import from_pretrained, random_init, save_pretrained
from avssl.recipes.benchmark import benchmark
from avssl.recipes.benchmark.cells import How
from avssl.recipes.benchmark.checks import SuiteError, check_suite
from avssl.recipes.benchmark.models import (
    check_inputs,
    inputs_of,
    load_models,
    random_columns,
    random_model,
    supervised_commands,
    supervised_model,
)
from avssl.recipes.benchmark.scores import Score
from avssl.recipes.benchmark.suite import read_suite
from avssl.recipes.benchmark.table import latex_table, score_text
from avssl.recipes.synthesize import synthesize
from avssl.synthetic import SceneSettings
from avssl.training.build import build_model

SUITES = sorted((Path(__file__).parents[2] / "configs/suites").glob("*.yaml"))
SHORT = {
    "optim.epochs": 1,
    "optim.lr": 1e-5,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "optim.batch_size": 8,
    "test.windows_per_clip": 1,
    "test.report": False,
}
PROTOCOLS = {
    "linear": {},
    "knn": {"neighbors": 5},
    "svm": {"modality": "audio", "windows_per_clip": 1, "svm_iterations": 5},
    "layers": {"modality": "audio", "windows_per_clip": 1, "epochs": 1},
    "attentive": {"modality": "audio", "windows_per_clip": 1, "epochs": 1},
    "retrieval": {"modality": "video", "windows_per_clip": 1},
    "av_retrieval": {"clips_per_class": 1},
    "two labels": {"protocol": "few_labels", "labels.per_class": 2, **SHORT},
    "robustness": {},
    "localization": {"split": "test", "rules": ["adaptive"]},
    "sync": {"split": "test", "max_offset_seconds": 0.1, "step_seconds": 0.02},
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with a corpus of 40 training and 16 test clips."""
    folder = tmp_path_factory.mktemp("suite")
    scene = SceneSettings(width=48, height=48, duration_seconds=1.5)
    synthesize(folder / "shapes", num_clips=40, num_test_clips=16, num_workers=0, scene=scene, progress=False)
    return folder


@pytest.fixture
def suite(tmp_path):
    """Writes a suite of one data set: ``suite({"linear": {}}, seed=1)``."""

    def write(protocols, data=None, **more):
        fields = {"manifest": "shapes/manifest.csv", "label_column": "action", **(data or {}), "protocols": protocols}
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump({"data": {"shapes": fields}, **more}, sort_keys=False))
        return path

    return write


def words_of(suite, release, shapes, out, *more):
    words = ["benchmark", str(suite), str(release), "--data", str(shapes), "-o", str(out)]
    return [*words, "--num-workers", "0", "--device", "cpu", "--no-progress", *more]


def test_every_cell_is_the_number_of_its_own_verb(suite, shapes, tiny_release, tmp_path, capsys):
    out = tmp_path / "out"
    supervised = {"data": "shapes", **SHORT}
    assert main(words_of(suite(PROTOCOLS, supervised=supervised), tiny_release, shapes, out)) == 0
    results = read_json(out / "results.json")
    assert [model["name"] for model in results["models"]] == ["release", "random init", "supervised"]
    measured = {(cell["protocol"], cell["model"]) for cell in results["cells"]}
    assert {protocol for protocol, _ in measured} == set(PROTOCOLS)
    joint = {"av_retrieval", "localization", "sync"}  # a supervised model has encoders alone
    assert {protocol for protocol, model in measured if model == "supervised"} == set(PROTOCOLS) - joint
    for cell in results["cells"]:
        assert cell["scores"]
        assert cell["error"] is None
        if cell["model"] != "release":
            continue
        alone = tmp_path / "alone" / cell["protocol"]
        program, *words = shlex.split(cell["command"])
        assert program == "avssl"
        assert main([*words, "-o", str(alone)]) == 0
        name = {"finetune": "results.json", "robustness": "robustness.json", "localize-eval": "results.json"}
        file = alone / name[words[0]] if words[0] in name else alone
        folder = out / "cells" / "shapes" / cell["protocol"] / "release"
        theirs = (
            folder
            / ("run" if words[0] in name else "")
            / name.get(words[0], "sync.json" if words[0] == "sync-eval" else "probe.json")
        )
        assert _without_times(read_json(theirs)) == _without_times(read_json(file))
        text = json.dumps(read_json(file))
        for score in cell["scores"]:
            assert json.dumps(score["value"]) in text
            assert score["n"] > 0
            assert score["clip_list"] in text
    table = (out / "table.md").read_text()
    for protocol in PROTOCOLS:
        assert f"| shapes | {protocol} |" in table
    assert "chance" in table
    assert "weights" in table
    assert results["cells"][0]["scores"][0]["clip_list"] in table
    assert r"\begin{tabular}" in (out / "table.tex").read_text()
    assert "<table>" in (out / "index.html").read_text()

    # Features are extracted once for the protocols that can share them, and finished cells are kept.
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/**/cell.json")}
    features = len(list((out / "features").glob("*.npz")))
    assert features < 2 * len(measured)
    capsys.readouterr()
    assert main(words_of(suite(PROTOCOLS, supervised=supervised), tiny_release, shapes, out)) == 0
    assert capsys.readouterr().out.count(": is there") == len(measured)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("cells/**/cell.json")}


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "wall_seconds"}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def test_protocols_share_features_and_another_command_is_an_error(
    suite, shapes, tiny_release, tmp_path, capsys, monkeypatch
):
    passes, run = [], extract._extract
    monkeypatch.setattr(extract, "_extract", lambda *args, **more: passes.append(len(args[2])) or run(*args, **more))
    out, once = tmp_path / "out", {"windows_per_clip": 1}
    probes = {"linear": {}, "knn": {}, "retrieval": once, "layers": {"epochs": 1, **once}}
    assert main(words_of(suite(probes, random_init=False), tiny_release, shapes, out)) == 0
    assert passes == [3, 3]  # of the release, and of the random weights of each probe; linear and knn read the same
    out = tmp_path / "again"
    assert main(words_of(suite({"linear": {}, "knn": {}}), tiny_release, shapes, out)) == 0
    assert len(list((out / "features").glob("*.npz"))) == 2  # of the release, and of random weights
    assert main(words_of(suite({"linear": {}, "knn": {"neighbors": 3}}), tiny_release, shapes, out)) == 1
    error = capsys.readouterr().err
    assert "knn" in error
    assert "--neighbors 3" in error
    assert "--overwrite" in error
    assert main(words_of(suite({"knn": {"neighbors": 3}}), tiny_release, shapes, out, "--overwrite")) == 0


def test_dry_run_lists_cells_and_commands_and_writes_nothing(suite, shapes, tiny_release, tmp_path, capsys):
    assert main(words_of(suite({"linear": {}}), tiny_release, shapes, tmp_path / "out", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert "shapes / linear: 2 models" in printed
    assert "avssl probe" in printed
    assert "--protocol linear" in printed
    assert "--label-column action" in printed
    assert "cells: 2, of which 0 are there; the others take an unknown time: shapes / linear" in printed
    assert not (tmp_path / "out").exists()
    record = {"scores": [], "seconds": 90}
    folder = tmp_path / "out/cells/shapes/linear/release"
    folder.mkdir(parents=True)
    write_json(folder / "cell.json", record)
    assert main(words_of(suite({"linear": {}, "knn": {}}), tiny_release, shapes, tmp_path / "out", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert (
        "cells: 4, of which 1 are there; the others take about 2 min, and an unknown time for shapes / knn" in printed
    )


@pytest.mark.parametrize(
    ("protocols", "data", "more", "message"),
    [
        ({"linaer": {}}, {}, {}, r"protocols.linaer: the protocol 'linaer' must be one of .* Did you mean linear\?"),
        ({"knn": {"neigbors": 3}}, {}, {}, r"protocols.knn: --neigbors is not an option. Did you mean --neighbors\?"),
        ({"knn": {"neighbors": 0}}, {}, {}, r"protocols.knn: --neighbors \(0\) must be >= 1"),
        ({"knn": {"seed": 3}}, {}, {}, r"protocols.knn.seed: is set by the suite"),
        ({"few_labels": {}}, {}, {}, r"few_labels: set labels.per_class or labels.fraction"),
        ({"finetune": {"optim.lrr": 1}}, {}, {}, r"finetune: --optim.lrr is not .* Did you mean --optim.lr\?"),
        ({"linear": {}}, {"label_colum": "x"}, {}, r"label_colum is not a key of a suite. Did you mean label_column\?"),
        ({"linear": {}}, {"label_column": "kind"}, {}, r"no column 'kind' in this manifest; it has id, path"),
        ({"linear": {}}, {"test_split": "tset"}, {}, r"no row has split 'tset'; the manifest has test, train"),
        ({"few_labels": {"labels.per_class": 900}}, {}, {}, r"900 labels per class, but the class .* has only"),
        ({"av_retrieval": {"clips_per_class": 99}}, {}, {}, r"the class .* has only .* Lower --clips-per-class"),
        ({"localization": {"split": "val"}}, {}, {}, r"no row has split 'val'; the manifest has test, train"),
        ({"svm": {}}, {"multi_label": True}, {}, r"takes one label per row; with multi_label use linear or knn"),
        ({"linear": {}}, {}, {"sed": 1}, r"sed is not a key of a suite. Did you mean seed\?"),
        ({"linear": {}}, {}, {"seed": -1}, r"seed \(-1\) must be >= 0"),
        ({"linear": {}}, {}, {"supervised": {"data": "shape"}}, r"supervised.data \(shape\) .* Did you mean shapes\?"),
        (
            {"linear": {}},
            {},
            {"supervised": {"data": "shapes", "classifier": {"inputs": "video"}}},
            r"supervised.classifier.inputs: one classifier of each modality is trained",
        ),
        ({}, {}, {}, r"data.shapes.protocols: name one protocol at least"),
        ({"linear": 3}, {}, {}, r"data.shapes.protocols.linear: must be a mapping"),
    ],
)
def test_what_is_not_there_is_an_error_before_anything_is_measured(
    protocols, data, more, message, suite, shapes, tiny_release, tmp_path
):
    with pytest.raises(AvsslError, match=message):
        benchmark(suite(protocols, data, **more), [str(tiny_release)], out=tmp_path / "out", data=shapes)
    assert not (tmp_path / "out").exists()


def test_missing_manifests_and_checkpoints_are_named_with_what_to_do(suite, shapes, tiny_release, tmp_path, capsys):
    path = suite({"linear": {}}, {"manifest": "other/manifest.csv", "get": "python datasets/other.py other"})
    with pytest.raises(SuiteError, match=r"make it with: python datasets/other.py other.*Found: none.*--only"):
        benchmark(path, [str(tiny_release)], out=tmp_path / "out", data=shapes)
    assert main(words_of(suite({"linear": {}}), tmp_path / "nothing", shapes, tmp_path / "out")) == 1
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(SuiteError, match=r"the data sets of .* are shapes"):
        benchmark(suite({"linear": {}}), [str(tiny_release)], out=tmp_path / "out", data=shapes, only=["shape"])


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_committed_suites_fit_their_manifests_and_say_how_to_get_them(path, tiny_release, tmp_path):
    suite, how = read_suite(path), How(tmp_path / "out", tmp_path, "cpu", 0)
    with pytest.raises(SuiteError) as error:
        check_suite(suite, str(tiny_release), how)
    for data in suite.data:
        assert f"make it with: {' '.join(data.fields.get.split())}" in str(error.value)
    for data in suite.data:
        _write_rows(tmp_path / data.fields.manifest, data.fields)
    check_suite(suite, str(tiny_release), how)


def _write_rows(path, fields):
    """Write a manifest with the columns that a data set names; nothing is decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 40
    names = [f"{number}.mp4" for number in range(count)]
    split = [fields.train_split if number % 2 else fields.test_split for number in range(count)]
    columns = {"id": names, "path": names, "truth": [f"{name}.json" for name in names], "split": split}
    columns |= {name: ["ab"[number // 20] for number in range(count)] for name in ("label", "action")}
    columns |= dict.fromkeys(fields.split_column, split)
    columns |= {"fold": [str(number % 5) for number in range(count)]}
    Manifest.from_columns(columns, path.parent).write(path)
    for name in names:
        (path.parent / name).write_bytes(name.encode())


def test_a_cell_that_fails_leaves_the_others_and_is_tried_again(suite, shapes, tiny_release, tmp_path, monkeypatch):
    from avssl.recipes.benchmark import measure

    def fail(cell, *arguments, **options):
        return "the disk burns." if cell.entry.name == "knn" else run_cell(cell, *arguments, **options)

    run_cell = measure.run_cell
    path, options = suite({"linear": {}, "knn": {}}, random_init=False), {"out": tmp_path / "out", "data": shapes}
    monkeypatch.setattr(measure, "run_cell", fail)
    with pytest.raises(AvsslError, match="1 of 2 cells have no number; the first is shapes / knn / release"):
        benchmark(path, [str(tiny_release)], progress=False, num_workers=0, **options)
    assert "Missing: shapes / knn / release: the disk burns." in (tmp_path / "out" / "table.md").read_text()
    monkeypatch.undo()
    results = benchmark(path, [str(tiny_release)], progress=False, num_workers=0, **options)
    assert not results.failures
    assert len(results.scores) == 2


def test_an_unfinished_cell_of_another_command_is_begun_again(suite, shapes, tiny_release, tmp_path, monkeypatch):
    from avssl.recipes.benchmark import cells

    def stop(*arguments):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    options = {"out": out, "data": shapes, "progress": False, "num_workers": 0}
    few = {"two labels": {"protocol": "few_labels", "labels.per_class": 1, **SHORT}}
    monkeypatch.setattr(cells, "read_scores", stop)
    with pytest.raises(KeyboardInterrupt):
        benchmark(suite(few, random_init=False), [str(tiny_release)], **options)
    monkeypatch.undo()
    few["two labels"]["labels.per_class"] = 2
    benchmark(suite(few, random_init=False), [str(tiny_release)], **options)
    (result,) = out.glob("cells/**/run/results.json")
    assert read_json(result)["protocol"]["labels_per_class"] == 2


def test_random_weights_are_those_of_the_checkpoint_at_hand(tiny_release, tmp_path):
    how = How(tmp_path, tmp_path, "cpu", 0)
    other = from_pretrained(tiny_release)
    next(iter(other.transform.state_dict().values())).add_(1)  # statistics of other training clips
    save_pretrained(tmp_path / "other", other.model, other.transform, other.config)
    weights = [
        random_model("random init", str(name), how, 0).weights
        for name in (tiny_release, tmp_path / "other", tiny_release)
    ]
    assert weights[0] == weights[2] != weights[1]


def test_supervised_classifiers_of_another_command_are_an_error(suite, shapes, tiny_release, tmp_path):
    how, kept = How(tmp_path / "out", shapes, "cpu", 0), tmp_path / "out" / "models" / "supervised.json"
    path = suite({"knn": {}}, supervised={"data": "shapes", "optim.lr": 0.5})
    commands = supervised_commands(read_suite(path), from_pretrained(tiny_release), how)
    write_json(kept, {name: inputs_of(words[:-2]) for name, words in commands.items()})
    with pytest.raises(OutputError, match=r"supervised-video: holds results of other command .*now .*--classifier"):
        supervised_model(read_suite(path), str(tiny_release), how, overwrite=False, progress=False)


def test_cells_depend_on_what_their_config_file_holds(tmp_path):
    config, manifest = tmp_path / "a.yaml", tmp_path / "m.csv"
    manifest.write_text("id")
    words = [str(manifest), "--config", str(config)]
    config.write_text("1")
    before = inputs_of(words)
    check_inputs(tmp_path, before, inputs_of(words))
    config.write_text("12")
    with pytest.raises(OutputError, match="holds results of other config"):
        check_inputs(tmp_path, before, inputs_of(words))


def test_only_keeps_what_was_measured_of_other_data_sets(shapes, tiny_release, tmp_path):
    one = {"manifest": "shapes/manifest.csv", "protocols": {"knn": {"modality": "audio", "windows_per_clip": 1}}}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({"data": {"a": one, "b": one, "c": one}, "random_init": False}))
    options = {"out": tmp_path / "out", "data": shapes, "progress": False, "num_workers": 0}
    for name in "ba":
        results = benchmark(path, [str(tiny_release)], only=[name], **options)
    assert {cell for cell, *_ in results.scores} == {"a", "b"}


def test_table_texts():
    score = Score("accuracy, video", 0.125, 8, "abc", (0.0, 0.5), None, {"chance": 0.1})
    assert score_text(score) == "12.5 [0.0, 50.0]"
    assert score_text(Score("mAP", 0.5, 8, "abc", None, 0.013)) == "50.0 ± 1.3"
    assert Score.from_plain(json.loads(json.dumps(score.plain()))) == score
    assert r"a\_b & 50 \% & $\pm$ \\" in latex_table(["a_b", "50 %", "±"], [["a_b", "50 %", "±"]], "c")


def test_a_suite_that_is_no_mapping_is_an_error(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text("data: [1, 2]\n")
    with pytest.raises(ConfigError, match="data: must be a mapping"):
        read_suite(path)


def test_each_network_has_its_own_random_column(tiny_release, tmp_path):
    release = from_pretrained(tiny_release)
    same = save_pretrained(tmp_path / "same", random_init(release, 9).model, release.transform, release.config)
    tree = to_dict(release.config)
    tree["model"]["video"]["width"] = 8
    config = config_from_dict(tree, "", Config)
    wider = save_pretrained(tmp_path / "wider", build_model(config, 0), release.transform, config)
    models = load_models([str(path) for path in (tiny_release, same, wider)])
    columns = random_columns(models, 0)
    assert columns == {
        f"random init, {models[0].name}": str(tiny_release),
        f"random init, {models[2].name}": str(wider),
    }
    assert random_columns(models[:2], 0) == {"random init": str(tiny_release)}
