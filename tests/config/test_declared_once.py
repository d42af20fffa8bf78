"""Every option is declared once: a setting and the argument that it becomes have one name and one default."""

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

from avssl.config import (
    CHOICES,
    ClassifierConfig,
    Config,
    DataConfig,
    DistillConfig,
    FinetuneConfig,
    FinetuneOptimConfig,
    OptimConfig,
    SamplingConfig,
    TeacherConfig,
    TrainConfig,
    TransformConfig,
)
from avssl.config.declared import read_declaration
from avssl.config.finetune import EvaluationConfig, FinetuneTrainConfig, LabelConfig
from avssl.config.parsing import groups, read_names
from avssl.config.settings import DropoutConfig, MonitorConfig, ReadingConfig, SpaceConfig
from avssl.core.lazy import load
from avssl.media import MediaLimits
from avssl.models import AUDIO_ENCODERS, CLASSIFIER_LOSSES, HEADS, VIDEO_ENCODERS
from avssl.objectives import OBJECTIVES
from avssl.transforms import SPECTROGRAMS

GIVEN = {"seed", "sample_rate_hz"}
"""Arguments with a default that another setting gives."""
TABLES = {
    "objective": OBJECTIVES,
    "model.video": VIDEO_ENCODERS,
    "model.audio": AUDIO_ENCODERS,
    "model.head": HEADS,
    "transform.spectrogram": SPECTROGRAMS,
    "loss": CLASSIFIER_LOSSES,
}
EVALUATION = {f"eval_{name}": name for name in ("crop", "resize_short", "interpolation")}
PASSED_ON = [
    (SamplingConfig, "avssl.data.sampling:ClipSampling", {}),
    (TransformConfig().video, "avssl.transforms:VideoAugment", {}),
    (
        TransformConfig().video,
        "avssl.transforms:VideoEval",
        EVALUATION,
    ),
    (TransformConfig().audio, "avssl.transforms:RandomGain", {}),
    (TransformConfig().audio, "avssl.transforms:SpectrogramMask", {}),
    (TransformConfig().audio, "avssl.transforms:WaveformAugment", {}),
    (Config().local_views, "avssl.transforms:LocalViews", {}),
    (DropoutConfig, "avssl.models:AVModel", {"video": "video_dropout"}),
    (OptimConfig, "avssl.engine:create_optimizer", {}),
    (OptimConfig, "avssl.engine:WarmupCosine", {"final_lr": "final"}),
    (FinetuneOptimConfig, "avssl.engine:create_optimizer", {}),
    (CHOICES["schedule"]["cosine"], "avssl.engine:WarmupCosine", {"final_lr": "final"}),
    (TrainConfig, "avssl.training.tasks:PretrainTask", {}),
    (DataConfig, "avssl.data.loader:TrainLoader", {}),
    (ClassifierConfig, "avssl.models:Classifier", {}),
    (ClassifierConfig, "avssl.training.tasks:ClassifyTask", {"mixup": "mixup_alpha"}),
    (TeacherConfig, "avssl.training.tasks:DistillTask", {}),
]
"""A group of settings, the class or function that takes them, and the names that differ."""
READ_BY_RUNS = {
    ReadingConfig,
    MediaLimits,
    MonitorConfig,
    LabelConfig,
    FinetuneTrainConfig,
    EvaluationConfig,
    SpaceConfig,
}
"""Groups whose settings are not arguments of a class with the same defaults."""

CALLED = [
    ("avssl.recipes.cka:cka", "avssl.features.stage_reader:StageReader"),
    ("avssl.recipes.index:index", "avssl.data.health.indexing:index_folder"),
    ("avssl.config.settings:DataConfig", "avssl.data.health.indexing:index_folder"),
    ("avssl.recipes.localize:localize", "avssl.features.localize:localize"),
    ("avssl.recipes.localize:localize", "avssl.features.localize:localize_each"),
    ("avssl.recipes.localize_eval:localize_eval", "avssl.downstream.localization.measure:measure_localization"),
    ("avssl.recipes.localize_eval:localize_eval", "avssl.evaluation.localization.samples:localization_samples"),
    ("avssl.recipes.probe:probe", "avssl.data.splits.division:divide"),
    ("avssl.recipes.robustness:Settings", "avssl.data.splits.division:divide"),
    ("avssl.recipes.select_clips:select", "avssl.data.splits.division:divide"),
    ("avssl.recipes.select_clips:select", "avssl.downstream.labeling.features:FeatureSettings"),
    ("avssl.config.finetune:LabelConfig", "avssl.data.splits.division:divide"),
]
"""A verb or a group of settings, and a function that takes some of its values under the same names."""
DECIDED_HERE = ("device", "progress", "num_workers", "backend")
"""Options of a verb that a function leaves to its caller."""
NO_DEFAULT = (MISSING, None)


DECIDED_LATER = (None, "none")
"""Settings for which the run finds a value, such as the number of workers."""


def defaults(callee: Any) -> dict[str, Any]:
    """Return the defaults of a class or function, those of base classes that take its ``**options`` included."""
    parameters = inspect.signature(callee).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        found = defaults(callee.__mro__[1]) | found
    return found


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, table in TABLES.items() for name in table])
def test_a_choice_has_the_options_and_defaults_of_its_class(path, name):
    expected = {key: value for key, value in defaults(load(TABLES[path][name])).items() if key not in GIVEN}
    assert CHOICES[path][name](name).options() == expected


def test_every_group_is_walked():
    assert set(CHOICES) == {*TABLES, "schedule"}
    roots = (Config(), FinetuneConfig(), DistillConfig())
    found = {type(group) for root in roots for path, group in groups(read_names([], root), root) if path not in CHOICES}
    walked = {group if isinstance(group, type) else type(group) for group, *_ in PASSED_ON}
    assert found - walked == READ_BY_RUNS


@pytest.mark.parametrize(("group", "path", "names"), PASSED_ON)
def test_a_setting_has_the_default_of_the_argument_it_becomes(group, path, names):
    callee = defaults(load(path))
    settings = {field.name: field.default for field in fields(group) if field.default not in DECIDED_LATER}
    shared = {name: names.get(name, name) for name in settings if names.get(name, name) in callee}
    assert shared
    assert {name: settings[name] for name in shared} == {name: callee[argument] for name, argument in shared.items()}


@pytest.mark.parametrize(("verb", "callee"), CALLED)
def test_a_verb_has_the_defaults_of_what_it_calls(verb, callee):
    given, taken = (
        {name: option.default for name, option in read_declaration(path).options.items() if name not in DECIDED_HERE}
        for path in (verb, callee)
    )
    shared = [name for name in given if given[name] not in NO_DEFAULT and taken.get(name, MISSING) not in NO_DEFAULT]
    assert shared, "the two share no default: leave this pair out"
    assert {name: given[name] for name in shared} == {name: taken[name] for name in shared}
