"""Every section of the documentation with measured figures names the command, or the file of rows, that gives them.

A section is a heading with its text up to the next heading. It names the command itself, or else the introduction of
the nearest enclosing section with text does. Where figures are no measurements, the section says so in a comment,
which neither GitHub nor the site shows:

    <!-- figures: REASON -->       with one of REASONS
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "datasets/README.md")]
PAGES += sorted([*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("benchmarks/results/*.md")])

REASONS = {
    "settings and limits",  # what an option, a constant or a format says
    "versions",
    "of the papers",
    "a rule of thumb",  # which follows from a formula
    "made up",  # an illustration that says so
}
UNITS = "%|GiB|GB|MiB|MB|KiB|ms|s|seconds?|minutes?|hours?|min"
FIGURE = re.compile(rf"±(?= ?\d)|(?<![\w.])\d+\.\d+\b|(?<![\w.])\d[\d ]*(?: times\b(?! \d)| ?(?:{UNITS})(?![\w/-]))")
MEASURES = re.compile(
    r"\b(?:benchmarks|docs)/\w+\.py|benchmarks/results/\w+\.(?:md|jsonl)|\bpytest |tests/[\w/]+\.py"
    r"|\bmake (?:demo|test|docs)\b|\bavssl (?:demo|benchmark|probe|localize-eval|robustness)\b|--dry-run\b"
)
"""Pattern of a command that prints figures, or of a file that holds them."""
COMMAND = re.compile(rf"{MEASURES.pattern}|^(?:avssl|python) \S", re.MULTILINE)
"""Pattern of any command in a block, which counts beside the figures themselves."""


@dataclass
class Section:
    """A heading, and what stands below it before the next one."""

    page: str
    level: int
    heading: str
    lines: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)

    def figures(self) -> list[str]:
        """Return figures outside of code, links and names."""
        text = re.sub(r"`[^`]*`", "", "\n".join(self.prose))
        text = re.sub(r"\]\([^)]*\)|https?://\S+|<!--.*-->", "", text)
        return [found.strip() for found in FIGURE.findall(text)]

    def text(self) -> str:
        return re.sub(r"<!--.*-->", "", "\n".join(self.lines))

    def markers(self) -> list[str]:
        return re.findall(r"<!-- figures: (.*) -->", "\n".join(self.lines))


def sections(path: Path) -> list[Section]:
    """Return the sections of a page, that before the first heading too."""
    found, is_code = [Section(path.relative_to(REPOSITORY).as_posix(), 0, "")], False
    for line in path.read_text(encoding="utf-8").splitlines():
        is_code ^= line.startswith("```")
        if not is_code and (heading := re.match(r"(#+) (.*)", line)):
            found.append(Section(found[0].page, len(heading[1]), heading[2]))
            continue
        found[-1].lines.append(line)
        if not is_code and not line.startswith(("    ", "```")):
            found[-1].prose.append(line)
    return found


def without_command(path: Path) -> list[str]:
    """Return the sections of a page whose figures have no command."""
    wrong, enclosing = [], []
    for section in sections(path):
        enclosing = [each for each in enclosing if each.level < section.level]
        above = next((each.text() for each in reversed(enclosing) if each.text().strip()), "")
        enclosing.append(section)
        if section.markers():
            continue
        if (found := section.figures()) and not COMMAND.search(section.text()) and not MEASURES.search(above):
            wrong.append(f"{section.page}: {section.heading}: {', '.join(found[:8])}")
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_sections_with_figures_name_their_command(path):
    assert without_command(path) == []


def test_comments_give_a_known_reason_and_are_needed():
    wrong = []
    for path in PAGES:
        for section in sections(path):
            for reason in section.markers():
                if reason not in REASONS or not section.figures():
                    wrong.append(f"{section.page}: {section.heading}: {reason}")
    assert wrong == []


def test_no_figure_was_measured_by_hand():
    found = []
    for path in PAGES:
        for section in sections(path):
            sentences = re.split(r"(?<=[.:;])\s", " ".join(section.prose))
            found += [text for text in sentences if "by hand" in text and FIGURE.search(re.sub(r"`[^`]*`", "", text))]
    assert found == []
