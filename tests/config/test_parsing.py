import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest

from avssl.config import (
    CHOICES,
    Config,
    ConfigError,
    FinetuneConfig,
    config_from_dict,
    field_docs,
    load_config,
    load_run_config,
    to_dict,
    to_yaml,
)
from avssl.config.command import Verb


def parse(*argv: str) -> Config:
    config: Config = Verb("pretrain", "avssl.recipes.pretrain:pretrain").parse(argv)["config"]
    return config


@pytest.fixture
def avid_yaml(tmp_path):
    path = tmp_path / "avid.yaml"
    path.write_text("optim:\n  lr: 2e-4\nmodel:\n  video:\n    name: avid_r2plus1d_10\n    stem_pool: false\n")
    return path


def test_no_arguments_give_the_defaults():
    assert parse() == Config()
    assert config_from_dict({}) == Config()


def test_command_line_overrides_the_file_in_any_order(avid_yaml):
    for argv in (["--optim.lr", "3", "--config", str(avid_yaml)], ["--config", str(avid_yaml), "--optim.lr=3"]):
        config = parse(*argv)
        assert config.optim.lr == 3
        assert (config.model.video.name, config.model.video.stem_pool) == ("avid_r2plus1d_10", False)


def test_numbers_with_an_exponent_are_numbers(avid_yaml):
    assert load_config(avid_yaml).optim.lr == 2e-4
    assert parse("--optim.lr", "1e-5").optim.lr == 1e-5


def test_an_option_may_precede_the_name_of_its_choice():
    config = parse("D", "--model.video.stem_pool", "false", "--model.video.name", "avid_r2plus1d_34")
    assert config.model.video.options() == {"stem_pool": False, "stride": None, "dilated": False}


@pytest.mark.parametrize("words", [["[0.5, 1]"], ["[0.5,1]", "folder"], ["0.5,1", "folder"], ["0.5", "1"]])
def test_tuples_from_the_command_line(words):
    config = parse("--transform.video.scale", *words)
    assert config.transform.video.scale == (0.5, 1.0)
    assert config.data.source == ("folder" if "folder" in words else "")
    config = parse("--model.video.num_blocks", "1,2", "--model.video.name", "small_video")
    assert config.model.video.options()["num_blocks"] == (1, 2)


@pytest.mark.parametrize("word", ["none", "None", "null"])
def test_none_from_the_command_line(word):
    assert parse("--sampling.short-side", word).sampling.short_side is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--objective.temprature", "1"], r"--objective.temprature is not a setting. Did you mean --objective.temper"),
        (["--ot", "x"], r"--ot is not an option. Did you mean --out"),
        (["--objective.name", "info_nca"], r"objective.name \(info_nca\) must be one of .*Did you mean info_nce"),
        (["--model.video.stem_pool", "true"], "is a setting of model.video.name=avid_r2plus1d_10 or .*is small_video"),
        (["--optim.lr", "fast"], "optim.lr: Expected a float. Got value: fast"),
        (["--optim.lr", "-1"], r"optim.lr \(-1.0\) must be > 0"),
        (["--train.batch_norm", "frozen"], r"--train.batch-norm: Expected one of \['train', 'eval', 'sync'\]"),
        (["--model", "x"], "--model is a group of settings; set --model.audio.name"),
        (["--config", "none.yaml"], "none.yaml: no such config file"),
        (["one", "two"], "unrecognized arguments: two"),
        (["--sampling.short_side", "x"], "^--sampling.short-side: Expected an int, or none. Got value: x.$"),
        (["one", "--data.source", "two"], r"SOURCE \(one\) and --data.source \(two\): one setting given twice"),
        (["--source", "one"], "SOURCE is given without --source: avssl pretrain SOURCE"),
        (["--config", ""], "--config is empty"),
        (["--config", "", "--train.seed", "1"], "--config is empty"),
        (["--resume="], "--resume is empty"),
        (["--sampling.short_side", "-5", "--print-config"], r"^--sampling.short-side \(-5\) must be"),
    ],
)
def test_wrong_command_lines_raise_in_one_line(argv, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse(*argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective:\n  temprature: 1", "x.yaml: objective.temprature is not a setting. Did you mean objective.temp"),
        ("model:\n  video:\n    stem_pool: true", "x.yaml: model.video.stem_pool is a setting of"),
        ("optim:\n  lr: fast", "x.yaml: optim.lr: Expected a float"),
        ("optim: 3", "x.yaml: optim is a group of settings"),
        ("- 1", "x.yaml: a config is a mapping"),
        ("a: [", "x.yaml: not a YAML file"),
        ("optim:\n  epochs: 0", r"x.yaml: optim.epochs \(0\) must be >= 1"),
        ("1: 2", "x.yaml: the key 1 must be a name."),
        ("optim:\n  true: 2", "x.yaml: the key True must be a name."),
    ],
)
def test_wrong_files_raise(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match=message):
        parse("--config", str(path))


def test_a_value_that_its_class_rejects_is_located(tmp_path):
    path, verb = tmp_path / "x.yaml", Verb("pretrain", "avssl.recipes.pretrain:pretrain")
    path.write_text("objective:\n  temperature: 0\n")
    for words in (["--print-config"], [str(tmp_path), "--out", str(tmp_path / "run")]):
        with pytest.raises(ConfigError, match=r"^\S*x.yaml: objective.temperature \(0.0\) must be >= 1e-06"):
            verb.run(["--config", str(path), *words])
        with pytest.raises(ConfigError, match=r"^--objective.temperature \(-1.0\) must be >= 1e-06"):
            verb.run(["--config", str(path), "--objective.temperature", "-1", *words])


def test_options_of_the_files_choice_raise_when_the_command_line_chooses_another(avid_yaml):
    with pytest.raises(ConfigError, match=r"stem_pool is a setting of .*, and model.video.name is small_video"):
        parse("--config", str(avid_yaml), "--model.video.name", "small_video")


def test_help_documents_the_options_of_the_choice(capsys):
    with pytest.raises(SystemExit) as done:
        parse("--help-all", "--model.video.name", "avid_r2plus1d_18")
    text = " ".join(capsys.readouterr().out.split())
    assert done.value.code == 0
    assert "--model.video.stem-pool" in text
    heads = "mlp, mlp_bn, linear, norm_linear"
    assert f"--model.head.name NAME Projection head of each modality. One of {heads}. (default: mlp_bn)" in text
    assert "--model.video.width" not in text
    assert "Softmax temperature, > 0; the initial one if it is learned." in text


def test_print_config_prints_a_file_that_reads_back(capsys, tmp_path):
    with pytest.raises(SystemExit) as done:
        parse("--model.video.width", "8", "--print_config", "--objective.pooling", "max")
    path = tmp_path / "resolved.yaml"
    path.write_text(capsys.readouterr().out)
    config = load_config(path)
    assert done.value.code == 0
    assert (config.model.video.options()["width"], config.objective.options()["pooling"]) == (8, "max")


def test_yaml_round_trip_of_every_choice(tmp_path):
    for path, table in CHOICES.items():
        root = FinetuneConfig if path in ("schedule", "loss") else Config
        for name in table:
            tree: dict[str, Any] = {"name": name}
            for part in reversed(path.split(".")):
                tree = {part: tree}
            config = config_from_dict(tree, root=root)
            (tmp_path / "c.yaml").write_text(to_yaml(config))
            assert load_config(tmp_path / "c.yaml", root) == config
            assert config_from_dict(to_dict(config), root=root) == config


def _classes(tree: Any) -> Iterator[type]:
    yield type(tree)
    for field in dataclasses.fields(tree):
        if dataclasses.is_dataclass(getattr(tree, field.name)):
            yield from _classes(getattr(tree, field.name))


def test_every_field_is_documented():
    for cls in {*_classes(Config()), *(cls for table in CHOICES.values() for cls in table.values())}:
        for field in dataclasses.fields(cls):
            assert field_docs(cls).get(field.name), f"{cls.__name__}.{field.name} has no doc"


@pytest.fixture
def derived_yaml(tmp_path, avid_yaml):
    """A file in another folder that changes two settings of ``avid.yaml``."""
    (tmp_path / "small").mkdir()
    path = tmp_path / "small" / "derived.yaml"
    path.write_text("base: ../avid.yaml\noptim: {batch_size: 8}\nmodel: {video: {stem_pool: true}}\n")
    return path


def test_a_file_overrides_its_base(derived_yaml):
    for config in (load_config(derived_yaml), parse("--config", str(derived_yaml))):
        assert (config.optim.lr, config.optim.batch_size) == (2e-4, 8)
        assert (config.model.video.name, config.model.video.stem_pool) == ("avid_r2plus1d_10", True)
    assert parse("--config", str(derived_yaml), "--optim.batch_size", "4").optim.batch_size == 4


def test_a_base_may_have_a_base(tmp_path, derived_yaml):
    path = tmp_path / "third.yaml"
    path.write_text("base: small/derived.yaml\noptim: {batch_size: 3}\n")
    config = load_config(path)
    assert (config.optim.lr, config.optim.batch_size, config.model.video.stem_pool) == (2e-4, 3, True)


def test_another_choice_drops_the_options_of_the_base_file(tmp_path, avid_yaml):
    path = tmp_path / "other.yaml"
    path.write_text("base: avid.yaml\nmodel: {video: {name: small_video, width: 8}}\n")
    config = load_config(path)
    assert (config.model.video.options()["width"], config.optim.lr) == (8, 2e-4)


@pytest.mark.parametrize(
    ("base", "text", "message"),
    [
        ("{}", "base: none.yaml", "x.yaml: base: .*none.yaml: no such config file"),
        ("base: x.yaml", "base: base.yaml", "x.yaml: base: the files form a circle: .*x.yaml -> .*base.yaml -> .*x"),
        ("{}", "base: [base.yaml]", r"x.yaml: base \(\['base.yaml'\]\) must be the name of a YAML file"),
        ("optim: {lrr: 1}", "base: base.yaml", r"x.yaml \(base .*base.yaml\): optim.lrr is not a setting. Did you"),
        ("objective: {queue: 3}", "base: base.yaml\nobjective: {name: moco}", "the base sets objective.queue without"),
    ],
)
def test_wrong_bases_raise(tmp_path, base, text, message):
    (tmp_path / "base.yaml").write_text(base)
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_required_setting_is_in_the_usage(capsys):
    with pytest.raises(SystemExit):
        Verb("finetune", "avssl.recipes.finetune:finetune").parse(["--help"])
    assert capsys.readouterr().out.startswith("usage: avssl finetune [SOURCE] --checkpoint MODEL [options]")


def test_only_a_verb_with_more_options_offers_all_of_them(capsys):
    for name, text in (("doctor", "Show this help and exit."), ("pretrain", "Show all options and exit.")):
        with pytest.raises(SystemExit):
            Verb(name, f"avssl.recipes.{name}:{name}").parse(["--help"])
        assert text in " ".join(capsys.readouterr().out.split())


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("optim:\n  lr: 1.0e-3\n  epochs: 2\n  lr: 1.0e-4\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: not a YAML file: the key 'lr' stands twice .* line 4"):
        load_config(path)


def test_anchors_are_read_and_do_not_grow_without_bound(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("optim: {lr: &rate 1.0e-3, weight_decay: *rate}\n")
    assert load_config(path).optim.weight_decay == load_config(path).optim.lr == 1e-3
    levels = "\n".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 20))
    for text in (f"k0: &k0 [x]\n{levels}\n", "a: &a [*a]\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"x\.yaml: its anchors .* repeat into more than 10000 values"):
            load_config(path)


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "x.yaml").write_text("base: fifo.yaml\n")
    for name in ("fifo.yaml", "x.yaml"):
        with pytest.raises(ConfigError, match=r"fifo\.yaml: is a FIFO"):
            load_config(tmp_path / name)


@pytest.mark.parametrize("line", ["", "\n  decay_tokens: false", "\n  decay_tokens: true"])
def test_a_run_from_before_a_setting_goes_on_as_it_began(tmp_path, capsys, line):
    """Its config.yaml has every setting that there was; a new run has the default."""
    text = to_yaml(config_from_dict({"data": {"source": "videos"}}))
    assert "\n  decay_tokens: false" in text
    (tmp_path / "config.yaml").write_text(text.replace("\n  decay_tokens: false", line))
    decays = line != "\n  decay_tokens: false"
    assert load_run_config(tmp_path).optim.decay_tokens == decays
    with pytest.raises(SystemExit):
        Verb("pretrain", "avssl.recipes.pretrain:pretrain").run(["--resume", str(tmp_path), "--print-config"])
    assert f"  decay_tokens: {str(decays).lower()}\n" in capsys.readouterr().out


def test_a_file_that_avssl_wrote_keeps_what_the_run_was(tmp_path):
    """Settings of a sweep of an earlier version have no ``decay_tokens``: its runs decayed them."""
    text = to_yaml(Config())
    (tmp_path / "new.yaml").write_text(text)
    (tmp_path / "old.yaml").write_text(text.replace("\n  decay_tokens: false", ""))
    assert load_config(tmp_path / "old.yaml", is_written=True).optim.decay_tokens
    assert not load_config(tmp_path / "old.yaml").optim.decay_tokens
    assert not load_config(tmp_path / "new.yaml", is_written=True).optim.decay_tokens
