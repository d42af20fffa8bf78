"""Fixtures of all tests: random generators restored after each, code on two ranks, benchmarks imported as modules.

AVSSL_TEST_MEDIA names a folder of small media files from other projects; AVSSL_REQUIRE lists backends and programs
without which a test fails instead of being skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from avssl.core.names import name_to_text
from avssl.core.stopping import STOP_SIGNALS

REPOSITORY = Path(__file__).resolve().parent.parent
BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make fast``."""
    parser.addoption("--within-seconds", type=float, help="Start no test later than this; say which were left out.")


def pytest_configure(config: pytest.Config) -> None:
    """Remember when the run began; heed signals that ``nohup``, a shell's ``&`` or a CI service has this run ignore."""
    config.stash[BEGAN] = time.monotonic()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that would start too late."""
    limit = item.config.getoption("within_seconds")
    if limit is not None and time.monotonic() - item.config.stash[BEGAN] > limit:
        pytest.skip(f"not within {limit:g} s")


class _FailuresAtOnce:
    """Print each failure when it happens, so that a run that is stopped later has told it."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the failure of a test, its setup or its teardown."""
        if report.failed:
            self._terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Register the printer of failures in the process that has the terminal."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_FailuresAtOnce(terminal))


@pytest.fixture(autouse=True)
def _restore_generators() -> Iterator[None]:
    """Keep the seed of one test from deciding what the next one draws; use two threads at most."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@pytest.fixture(autouse=True)
def _keep_scheduling() -> Iterator[None]:
    """Give up the real-time priority that SVT-AV1, run as root, takes for the thread that opens an encoder.

    The thread keeps it, and what it starts inherits it: a browser of a later test then stopped the whole machine.
    """
    _schedule_as_usual()
    yield
    _schedule_as_usual()


def _schedule_as_usual() -> None:
    if sys.platform == "linux" and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache folder, so that no result of an earlier one is reused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def are_gone() -> Callable[[Iterable[int]], bool]:
    """Return ``are_gone(pids)``, which waits until processes have ended.

    In a container without an init, nobody collects the ended children of a killed process: they stay as zombies.
    """

    def has_ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def wait(pids: Iterable[int]) -> bool:
        until = time.monotonic() + 60
        while not all(map(has_ended, pids)) and time.monotonic() < until:
            time.sleep(0.02)
        return all(map(has_ended, pids))

    return wait


@pytest.fixture(scope="session")
def odd_names() -> list[str]:
    """Names of files that people have, and those that attackers give, as text of avssl.core.names."""
    names = [
        *("Screen Recording 2024-05-01 at 3.04.05\u202fPM.mp4", "Mon\u00a0film.mp4", "東京\u3000夏祭り.mp4"),
        *("family 👩\u200d👩\u200d👧.mp4", "cafe\u0301.mp4", "right\u202eleft.mp4", "\ufeffmark.mp4"),
        *("Q: what is this.mp4", "a\\..\\b.mp4", "C:\\x.mp4", "\\\\server\\x.mp4", "http:x.mp4", "concat:a|b.mp4"),
        *("two\nlines.mp4", "two\r\nlines.mp4", "\ttab.mp4", "\x1b]0;title\x07.mp4", " blank .mp4", "x..mp4"),
        *("cats, dogs; birds.mp4", 'the "best" one.mp4', "it's.mp4", "100%.mp4", "a%20b.mp4", "%03d.mp4", "*[1]?.mp4"),
        *("-rf.mp4", "+1.mp4", "=1+1.mp4", "@x.mp4", "'=x.mp4", "''.mp4", "#1#0.000-2.000.mp4", "~.mp4"),
        *("x" * 251 + ".mp4", "007", "null", "NaN", "true"),
    ]
    not_utf8 = [b"caf\xe9.mp4", b"\xff\n%.mp4", b"bytes:%41.mp4"]
    return [*map(name_to_text, names), *(name_to_text(os.fsdecode(name)) for name in not_utf8)]


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context manager in which the system writes at most ``num_bytes`` into a file, as on a full disk."""

    @contextmanager
    def limited(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the release of a tiny untrained model with two heads."""
    from avssl.config import Config, config_from_dict
    from avssl.hub.pretrained import save_pretrained
    from avssl.training.build import build_model, build_transform

    tree = {
        "data": {"source": "none"},
        "sampling": {"num_frames": 2, "frames_per_second": 4.0, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256}},
        "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 8}},
        "objective": {"name": "dense_av", "num_heads": 2},
    }
    config = config_from_dict(tree, "", Config)
    transform = build_transform(config)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    return save_pretrained(tmp_path_factory.mktemp("demos") / "release", build_model(config, 0), transform, config)


@pytest.fixture(scope="session")
def timm_folder(tmp_path_factory) -> Path:
    """A folder of weights as timm writes it: a classifier of 10 classes on a ViT of two blocks."""
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("timm_weights")
    arguments = {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = timm.create_model("vit_tiny_patch16_224", num_classes=10, **arguments)
    save_file(network.state_dict(), folder / "model.safetensors")
    about = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 10,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "fixed_input_size": True,
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A tiny ViT\n")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[], Any]:
    """Return a function that builds a tokenizer of a few words: [PAD] 0, [CLS] 1, [SEP] 2, [UNK] 3."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    def build(limit: int = 32) -> Any:
        words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "the", "dog", "barks", "violin", "rain", "square", "circle"]
        model = tokenizers.models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]")
        made = tokenizers.Tokenizer(model)
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        special = [("[CLS]", 1), ("[SEP]", 2)]
        made.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
        names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
        names |= {"bos_token": "[CLS]", "eos_token": "[SEP]"}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=limit, **names)

    return build


@pytest.fixture(scope="session")
def tiny_image_text(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Callable[[], Any]
) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny random CLIP, SigLIP or CLAP, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**layers, "vocab_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    image = {**layers, "image_size": 32, "patch_size": 8}
    made: dict[str, Path] = {}

    def build(kind: str) -> Any:
        texts = {**text, "max_position_embeddings": 14 if kind == "clap" else 12}
        if kind == "clip":
            return transformers.CLIPModel(
                transformers.CLIPConfig(text_config=texts, vision_config=image, projection_dim=12)
            )
        if kind == "siglip":
            return transformers.SiglipModel(
                transformers.SiglipConfig(text_config={**texts, "projection_size": 16}, vision_config=image)
            )
        audio = {"hidden_size": 32, "patch_embeds_hidden_size": 16, "depths": [1, 1], "spec_size": 64}
        audio |= {"num_attention_heads": [1, 2], "window_size": 2, "num_mel_bins": 16}
        return transformers.ClapModel(transformers.ClapConfig(text_config=texts, audio_config=audio, projection_dim=12))

    def folder_of(kind: str) -> Path:
        if kind not in made:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = build(kind)
                for parameter in model.parameters():  # nothing is zero or one
                    parameter.data += 0.1 * torch.randn_like(parameter)
            made[kind] = tmp_path_factory.mktemp(kind)
            model.save_pretrained(made[kind])
            tiny_tokenizer().save_pretrained(made[kind])
            if kind == "clip":
                sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
                transformers.CLIPImageProcessor(**sizes).save_pretrained(made[kind])
            elif kind == "siglip":
                transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(made[kind])
            elif kind == "clap":
                sizes = {"feature_size": 16, "sampling_rate": 8000, "hop_length": 40, "fft_window_size": 256}
                transformers.ClapFeatureExtractor(
                    **sizes, max_length_s=1, frequency_max=4000, truncation="rand_trunc"
                ).save_pretrained(made[kind])
            (made[kind] / "README.md").write_text("---\nlicense: mit\n---\n")
        return made[kind]

    return folder_of


@pytest.fixture(scope="session")
def tiny_pe_av(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Callable[[], Any]) -> Path:
    """Return the folder of a tiny random PE-AV as transformers saves it, with its processor."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("timm")
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    dac = {"model_type": "dac", "downsampling_ratios": [4, 8], "encoder_hidden_size": 4, "codebook_dim": 8}
    sizes = {"img_size": 32, "patch_size": 8, "ref_feat_shape": [4, 4], "embed_dim": 16, "depth": 2, "num_heads": 2}
    vision = {"architecture": "vit_pe_core_tiny_patch16_384", "model_args": sizes, "num_labels": 12}
    text = {key: value for key, value in tower.items() if key != "head_dim"} | {"model_type": "modernbert"}
    text |= {"vocab_size": 16, "hidden_size": 24}
    text |= {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    towers = {
        "audio_config": {**tower, "model_type": "pe_audio_encoder", "dac_config": dac},
        "video_config": {**tower, "model_type": "pe_video_encoder", "vision_config": vision},
    }
    config = transformers.PeAudioVideoConfig(text_config=text, audio_video_config={**tower, **towers})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.PeAudioVideoModel(config)
        for name, parameter in model.named_parameters():
            if name.endswith("logit_scale"):
                parameter.data.fill_(20.0)
            elif name.endswith("logit_bias"):
                parameter.data.fill_(-5.0)
            elif parameter.ndim < 2 or not parameter.std() > 0:  # nothing is zero or one
                parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("pe_av") / "pe-av-tiny"
    model.save_pretrained(folder)
    frames = transformers.PeVideoVideoProcessor(
        do_resize=True,
        size={"height": 32, "width": 32},
        do_rescale=True,
        do_normalize=True,
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.5, 0.4, 0.3],
        num_frames=4,
    )
    sounds = transformers.PeAudioFeatureExtractor(sampling_rate=8000, hop_length=32)
    transformers.PeAudioVideoProcessor(sounds, frames, tiny_tokenizer()).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.fixture(scope="session")
def tiny_pe_av_model(tiny_pe_av: Path) -> Any:
    """Return the model of transformers in that folder, whose nested settings lose the number of pooled channels."""
    import transformers

    config = transformers.PeAudioVideoConfig.from_pretrained(tiny_pe_av)
    config.audio_video_config.video_config.vision_config.num_labels = 12
    return transformers.PeAudioVideoModel.from_pretrained(tiny_pe_av, config=config).eval()


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return ``run(script, *arguments, ranks=2)``: a Python file (or "-m", module) under torchrun with gloo.

    Each rank has one thread, as two ranks on two cores would otherwise wait for each other.
    """

    def run(
        *script: str | Path, ranks: int = 2, max_restarts: int = 0, check: bool = True, timeout_seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
        # 127.0.0.1, as the name of a container may not resolve; port 0 of --standalone is a free one.
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        command += [f"--nproc-per-node={ranks}", f"--max-restarts={max_restarts}", *map(str, script)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_seconds, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        )
        return done

    return run


@pytest.fixture(scope="session")
def benchmark_script() -> Callable[[str], ModuleType]:
    """Return ``load(name)``, which imports a script of ``benchmarks/`` as its neighbors import it."""

    def load(name: str) -> ModuleType:
        folder = str(REPOSITORY / "benchmarks")
        if folder not in sys.path:
            sys.path.append(folder)
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def test_media() -> Path:
    """Return the folder of odd media files from other projects; skip where AVSSL_TEST_MEDIA is unset."""
    folder = os.environ.get("AVSSL_TEST_MEDIA")
    if not folder:
        pytest.skip("AVSSL_TEST_MEDIA is not set")
    assert Path(folder).is_dir(), f"AVSSL_TEST_MEDIA={folder} is no folder"
    return Path(folder)


@pytest.fixture(scope="session")
def talking_clips(tmp_path_factory) -> list[Path]:
    """Return clips of 3 s of a talking face: those of GRID beside the odd media files, or else generated scenes."""
    media = os.environ.get("AVSSL_TEST_MEDIA")
    shared = Path(media).parent if media else REPOSITORY.parent / "shared"
    if found := sorted((shared / "real" / "grid" / "s1").glob("*.mp4")):
        return found
    from avssl.synthetic import SceneSettings, Split, synthesize_corpus

    folder = tmp_path_factory.mktemp("scenes")
    scenes = {"scenes": Split(3, SceneSettings(duration_seconds=3.0))}
    synthesize_corpus(folder, scenes, num_workers=0, progress=False)
    return sorted((folder / "scenes").glob("*.mp4"))


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Return ``check(name)``: skip if a media backend or "chromium" is missing, fail if AVSSL_REQUIRE names it."""
    from avssl.media import available_backends

    def check(name: str) -> None:
        reason = _why_no_browser() if name == "chromium" else available_backends()[name]
        if reason is None:
            return
        if name in os.environ.get("AVSSL_REQUIRE", "").split(","):
            pytest.fail(f"{name} is required here (AVSSL_REQUIRE): {reason}")
        pytest.skip(reason)

    return check


CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --mute-audio --window-size=1280,1300"
)


@pytest.fixture(scope="session")
def open_browser(require: Callable[[str], None]) -> Callable[..., Any]:
    """Return ``open(profile, **capabilities)``: a chromium that gives up on a page after a minute."""

    def start(profile: Path, **capabilities: Any) -> Any:
        require("chromium")
        import selenium.webdriver as drivers

        options = drivers.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for word in [*CHROMIUM.split(), f"--user-data-dir={profile}"]:
            options.add_argument(word)
        for name, value in capabilities.items():
            options.set_capability(f"goog:{name}", value)
        browser = drivers.Chrome(options, drivers.ChromeService("/usr/bin/chromedriver"))
        browser.set_page_load_timeout(60)
        return browser

    return start


def _why_no_browser() -> str | None:
    """Return None if a browser can be driven, else what is missing for it."""
    missing = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
    missing += [package for package in ("selenium", "gradio") if importlib.util.find_spec(package) is None]
    return f"not installed: {', '.join(missing)}" if missing else None
