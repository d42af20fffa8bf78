"""The documentation names nothing that is gone: files, modules, verbs, options, settings and headings."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

from avssl import cli
from avssl.config import CHOICES, Config, DistillConfig, FinetuneConfig, config_from_dict, flatten, to_dict
from avssl.core.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob(".github/**/*.md")])
PAGES += [REPOSITORY / "datasets" / "README.md", *sorted(REPOSITORY.glob("benchmarks/results/*.md"))]
SCRIPTS = sorted(
    path for folder in ("configs", "benchmarks", "demos") for path in (REPOSITORY / folder).glob("*.[py]*")
)
SOURCES = sorted((REPOSITORY / "avssl").rglob("*.py"))

FOLDERS = "avssl|tests|benchmarks|configs|docs|demos|datasets"
FILE = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]*\w\.(?:py|md|yaml|png|jsonl?|txt))\b")
MODULE = re.compile(r"(?<![\w./-])avssl((?:\.\w+)+)")
COMMAND = re.compile(r"(?<![\w./-])(?<!from )(?:avssl|python -m avssl|-m avssl) ([a-z][a-z-]+)([^\n`|#&;>]*)")
SCRIPT = re.compile(r"python ((?:benchmarks|datasets|demos)/\w+\.py)([^\n`|#&;>]*)")
OPTION = re.compile(r"(?<![\w-])--([a-zA-Z][\w.-]*)")
PLACEHOLDER = re.compile(r"configs/x\.yaml|.*NAME.*")


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def code(path: Path) -> str:
    """Return a page's code blocks and spans, a script's docstring or a config's header; continued lines are joined."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        text = re.sub(r"^# ?", "", "\n".join(re.findall(r"^#.*$", text, re.MULTILINE)), flags=re.MULTILINE)
    else:
        text = text if path.suffix == ".md" else ast.get_docstring(ast.parse(text)) or ""
        blocks = re.findall(r"^```\w*\n(.*?)^```|^( {4}\S.*)$", text, re.DOTALL | re.MULTILINE)
        rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        text = "\n".join([*map("".join, blocks), *re.findall(r"`([^`\n]+)`", rest)])
    return re.sub(r"\s*\\\n\s*", " ", text)


@cache
def verb_help(verb: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main([verb, "--help-all"])
    return out.getvalue()


@cache
def settings() -> set[str]:
    """Return every setting there is, with those of every choice of a name."""
    keys: set[str] = set()
    for root in (Config, FinetuneConfig, DistillConfig):
        keys |= set(flatten(to_dict(root())))
        for path, table in CHOICES.items():
            for choice in table:
                tree: dict = {"name": choice}
                for part in reversed(path.split(".")):
                    tree = {part: tree}
                try:
                    keys |= set(flatten(to_dict(config_from_dict(tree, "", root))))
                except ConfigError:  # this root has no such group
                    continue
    return keys


def is_gone(file: str) -> bool:
    return not (REPOSITORY / file).exists() and not PLACEHOLDER.fullmatch(file)


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name)
def test_named_files_exist(path):
    text = path.read_text(encoding="utf-8")
    gone = {file for file in FILE.findall(text) if is_gone(file)}
    gone |= {t for t in re.findall(r"`(test_\w+\.py)`", text) if not list((REPOSITORY / "tests").rglob(t))}
    assert gone == set()


def test_files_named_in_the_package_exist():
    gone = {
        f"{name(path)}: {file}"
        for path in SOURCES
        for file in FILE.findall(path.read_text(encoding="utf-8"))
        if is_gone(file)
    }
    assert gone == set()


def test_every_image_is_shown_or_linked():
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *REPOSITORY.glob("docs/*.css"), *SOURCES]]
    texts += [(REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")]
    images = [path for folder in ("docs", "benchmarks/results") for path in (REPOSITORY / folder).glob("*.[ps][nv]g")]
    assert len(images) > 5
    assert [name(path) for path in images if not any(path.name in text for text in texts)] == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name)
def test_named_modules_and_attributes_exist(path):
    text = code(path)
    imported = re.findall(r"from avssl((?:\.\w+)*) import ([\w, ]+)", text)
    names = {f"{module}.{name}" for module, names in imported for name in names.split(", ")}
    for dotted in sorted({*MODULE.findall(text), *names}):
        found = importlib.import_module("avssl")
        for part in dotted.strip(".").split("."):
            if hasattr(found, part):
                found = getattr(found, part)
                continue
            try:
                found = importlib.import_module(f"{found.__name__}.{part}")
            except ImportError as error:
                if "pip install 'avssl[" not in str(error):
                    raise
                break  # the module is there, and its extra is not


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name)
def test_commands_have_verbs_and_options_that_exist(path):
    wrong = []
    for verb, rest in COMMAND.findall(code(path)):
        if verb not in cli.VERBS:
            wrong.append(f"avssl {verb}")
            continue
        for option in OPTION.findall(rest):
            key, word = option.replace("-", "_"), f"--{option.replace('_', '-')}"
            exists = key in settings() if "." in key else word in verb_help(verb)
            if not exists:
                wrong.append(f"avssl {verb} --{option}")
    for script, rest in SCRIPT.findall(code(path)):
        if PLACEHOLDER.fullmatch(script):
            continue
        source = (REPOSITORY / script).read_text(encoding="utf-8")
        wrong += [f"{script} --{option}" for option in OPTION.findall(rest) if f'"--{option}"' not in source]
    assert wrong == []


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS, *(REPOSITORY / "datasets").glob("*.py")], ids=name)
def test_options_are_spelled_with_hyphens(path):
    assert [option for option in OPTION.findall(path.read_text(encoding="utf-8")) if "_" in option] == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_settings_named_in_code_spans_exist(path):
    groups = "|".join(sorted({key.split(".")[0] for key in settings()}))
    named = set(re.findall(rf"`(?:--)?((?:{groups})\.[a-z][a-z_.]*)[`= ]", path.read_text(encoding="utf-8")))
    known = settings() | {key.rpartition(".")[0] for key in settings()}
    assert {key for key in named - known if not key.endswith((".csv", ".txt"))} == set()


def test_map_of_the_rooms_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_architecture.py"))

    def without_sizes(text: str) -> str:  # files and lines change daily
        return re.sub(r"\| \d+ \| \d+ \|$|\d+ files", "", text, flags=re.MULTILINE)

    for path, text in script["made"]().items():
        found = without_sizes(path.read_text(encoding="utf-8"))
        assert found == without_sizes(text), "run python docs/make_architecture.py"


@pytest.mark.parametrize(
    ("rows", "module", "function"),
    [
        ("objectives", "objectives", "table"),
        ("recognition", "recognition_tables", "tables"),
        ("localization", "localization_tables", "tables"),
    ],
)
def test_tables_of_results_are_what_the_scripts_print(benchmark_script, rows, module, function):
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    file = REPOSITORY / "benchmarks" / "results" / f"{rows}.jsonl"
    printed = getattr(benchmark_script(module), function)(benchmark_script("rows").read_rows(file))
    assert [line for line in printed.splitlines() if line not in page] == []


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings, link targets and what is in parentheses."""
    text = re.sub(r"^```.*?^```|^(?: {4}|\||#|!\[).*$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\]\([^)]*\)", "", text)
    text = re.sub(r"\((?:[^()]|\([^()]*\))*\)", "", text)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    return [sentence for block in blocks for sentence in re.split(r"(?<=[.!?:])[\s*_]+", " ".join(block.split()))]


PROSE = [path for path in PAGES if path.name != "CHANGELOG.md" and "results" not in path.parts]


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_sentences_are_short(path):
    counted = [
        (len(re.findall(r"\b\w[\w'.-]*", sentence)), sentence) for sentence in sentences(path.read_text("utf-8"))
    ]
    assert [sentence for words, sentence in counted if words > 35] == []
