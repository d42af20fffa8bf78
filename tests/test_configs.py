import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from avssl.config import (
    FinetuneConfig,
    base_of,
    config_from_dict,
    flatten,
    load_config,
    parse_settings,
    read_yaml,
)
from avssl.downstream.finetuning import TrainingLength, build_schedule
from avssl.engine import Precision
from avssl.hub.classifier import create_classifier
from avssl.objectives import MemoryRows
from avssl.training.build import build_objective, build_sampling, build_task

EVERY = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
CONFIGS = [path for path in EVERY if not path.name.startswith("finetune")]
FINETUNING = [path for path in EVERY if path.name.startswith("finetune")]

ROWS = MemoryRows.from_ids([str(i) for i in range(100)])
AVID = CONFIGS[0].parent / "avid_kinetics.yaml"


@pytest.fixture(scope="module")
def config_cost(benchmark_script):
    return benchmark_script("config_cost")


def test_there_are_configs():
    assert {"avid_kinetics.yaml", "ezvsl_vggsound.yaml", "soundingshapes_cpu.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_parses_and_builds(path):
    config = load_config(path)
    build_objective(config, ROWS)
    build_sampling(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_header_says_what_it_costs(path):
    assert "\n# Cost:" in path.read_text()


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_header_says_source_command_and_what_was_measured(path):
    header = path.read_text().partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in header)
    assert any(line.startswith("# Source:") for line in header)
    command = header.index(next(line for line in header if line.startswith("# Command:")))
    assert any(f"configs/{path.name}" in line for line in header[command:]), "the command must name this file"
    # A result stands beside the command that printed it; without one, the header says so.
    (expected,) = (line.removeprefix("# Expected:").strip() for line in header if line.startswith("# Expected:"))
    assert expected.startswith("not run") or re.search(r"\d", expected)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_file_with_a_base_holds_differences_only(path):
    tree = yaml.safe_load(path.read_text())
    base = tree.pop("base", None)
    if base is None:
        return
    below, own = flatten(read_yaml(path.parent / base)), flatten(tree)
    chosen = {key.removesuffix("name") for key in own if key.endswith(".name")}
    same = {key for key in own if below.get(key) == own[key] and not key.startswith(tuple(chosen))}
    assert same == set()


@pytest.mark.parametrize("path", FINETUNING, ids=lambda path: path.stem)
def test_protocol_parses_over_a_checkpoint(path):
    config = config_from_dict(read_yaml(path), f"{path}: ", FinetuneConfig, base_of(load_config(AVID)))
    with torch.device("meta"):
        model, _ = create_classifier(config, 101)
    assert model.inputs == config.classifier.inputs
    assert config.model.video.name == "avid_r2plus1d_18"


def test_avid_protocols_are_those_of_the_authors():
    def facts(name):
        config = load_config(AVID.parent / f"finetune_{name}.yaml", FinetuneConfig)
        length = TrainingLength.from_config(config.optim, steps_per_epoch=100)
        rate = build_schedule(config, length)
        falls = [step // 100 - 5 for step in range(1, length.total_steps) if rate(step) < rate(step - 1)]
        shape = (config.sampling.num_frames, config.data.clips_per_read, config.optim.batch_size)
        return (*shape, length.epochs, length.head_steps // 100, falls, config.transform.video.brightness)

    assert facts("ucf101") == (8, 10, 64, 21, 5, [6, 10, 14], 0.4)
    assert facts("ucf101_32") == (32, 5, 32, 21, 5, [6, 10, 14], 0.4)
    assert facts("hmdb51") == (8, 25, 64, 15, 5, [3, 6, 8], 1.0)


def test_gdt_protocol_is_that_of_the_authors():
    config = load_config(AVID.parent / "finetune_gdt_ucf101.yaml", FinetuneConfig)
    rate = build_schedule(config, TrainingLength.from_config(config.optim, steps_per_epoch=100))
    assert [rate(step) for step in (99, 199, 599)] == pytest.approx([1.25e-4, 2.5e-4, 2.5e-4])
    assert [rate(step) for step in (600, 1000, 1199)] == pytest.approx([1.25e-5, 6.25e-7, 6.25e-7])
    assert (config.test.windows_per_clip, config.test.crop, config.optim.head_lr) == (10, "three", 2.5e-3)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_cost_in_the_header_is_what_the_command_beside_it_prints(path, config_cost, monkeypatch, capsys):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = next(line for line in header if line.startswith("# Cost:")).removeprefix("# Cost:").strip()
    python, script, *words = shlex.split(command)
    assert (python, script, words[0]) == ("python", "benchmarks/config_cost.py", f"configs/{path.name}")
    monkeypatch.setattr("sys.argv", [script, str(path), *words[1:]])
    config_cost.main()
    assert "\n".join(header).count(capsys.readouterr().out.strip()) == 1


def test_operations_are_counted_as_by_hand(config_cost):
    """By hand: 12.13 and 1.44 GMAC forward; backward is twice that, less the input gradients of the two stems."""
    config = load_config(AVID)
    stem_video = 8 * 112 * 112 * 64 * 3 * 3 * 7 * 7
    stem_audio = 100 * 129 * 64 * 7 * 7
    flops = config_cost.model_cost(config, 2, Precision()).flops / 2
    assert flops == pytest.approx(2 * (3 * (12.13e9 + 1.44e9) - stem_video - stem_audio), rel=1e-3)


def test_memory_of_the_rows(config_cost):
    assert config_cost.memory_bytes(load_config(AVID), 232_067) == 2 * 232_067 * 128 * 4
    assert config_cost.memory_bytes(load_config(AVID.parent / "avid_audioset.yaml"), 10) == 2 * 10 * 128 * 2
    assert config_cost.memory_bytes(load_config(AVID.parent / "ezvsl_vggsound.yaml"), 10) == 0


def test_avid_config_is_avids_networks_and_input():
    task = build_task(load_config(AVID), ROWS)
    assert sum(p.numel() for p in task.model.parameters()) == 21_286_784
    assert task.transform.spectrogram(torch.zeros(1, 48_000)).shape == (1, 1, 200, 257)


@pytest.mark.parametrize("name", ["avid_audioset100k", "cma_audioset100k"])
def test_ablation_config_is_avids_small_networks_and_input(name):
    task = build_task(load_config(AVID.parent / f"{name}.yaml"), ROWS)
    heads = 2 * 590_976
    assert sum(p.numel() for p in task.model.parameters()) == 7_015_616 + 4_725_696 + heads
    assert task.transform.spectrogram(torch.zeros(1, 48_000)).shape == (1, 1, 100, 129)
    assert task.model.video_encoder.conv1(torch.zeros(1, 3, 8, 112, 112)).shape == (1, 64, 8, 56, 56)


def test_variants_of_the_ablation_are_command_line_options():
    for variant in ("self", "joint"):
        config = parse_settings({"objective.variant": variant}, file=AVID.parent / "avid_audioset100k.yaml")
        assert build_objective(config, ROWS).variant == variant


def test_ezvsl_config_has_its_map_and_spectrogram():
    config = load_config(AVID.parent / "ezvsl_vggsound.yaml")
    task = build_task(config)
    assert task.transform.spectrogram(torch.zeros(1, 48_000)).shape == (1, 1, 200, 257)
    with torch.no_grad():
        out = task.model.eval()(torch.zeros(1, 3, 1, 224, 224), torch.zeros(1, 1, 200, 257), needs_maps=True)
    assert out.video_map.shape == (1, 512, 1, 7, 7)
    assert build_sampling(config).num_frames == 1
    assert task.objective.needs.maps


def test_soundingshapes_config_equals_the_demos(tmp_path):
    from avssl.recipes.demo.settings import DemoPlan, DemoSettings

    demo = DemoSettings().config(tmp_path, DemoPlan())
    demo.data.source = ""
    assert load_config(AVID.parent / "soundingshapes_cpu.yaml") == demo
