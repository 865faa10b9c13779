"""The documentation says each thing once, and only what the code says too."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest
from markdown_it import MarkdownIt

import prefect_extend_ai
from prefect_extend_ai import Outcome, flows, tasks
from prefect_extend_ai.cli.command_line import app
from prefect_extend_ai.rendering.words import plain
from prefect_extend_ai.sweep.rules.staleness import Exempt
from support.site import REPOSITORY, Page, file_in_checkout

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN = [page for page in [ROOT / "README.md", *PAGES] if page.name not in {"cli.md", "changelog.md"}]
FENCED = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def fenced(language):
    """Every fenced block of a language, with its page."""
    return [
        (page, block)
        for page in [ROOT / "README.md", *PAGES]
        for _, tongue, block in FENCED.findall(page.read_text())
        if tongue == language
    ]


def command_lines():
    """Every command line of ours that a page tells people to type."""
    for page, block in fenced("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = re.split(r" (?:\|\||&&|[|>&;]) ", line)[0]
            words = shlex.split(words, comments=True)
            if "prefect-extend-ai" in words:
                words = words[words.index("prefect-extend-ai") + 1 :]
                yield pytest.param(words, id=f"{page.stem}: {' '.join(words)}"[:60])


def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("page", list(reference()))
def test_generated_pages_are_those_of_the_code(page):
    assert (DOCS / "reference" / page).read_text() == reference()[page], "run: make docs"


def test_a_heading_stands_in_one_page():
    headings = Counter(
        heading
        for page in WRITTEN
        for heading in set(re.findall(r"^##+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE))
    )
    assert {heading for heading, count in headings.items() if count > 1} == set()


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "zensical.toml").read_text()
    assert [str(page.relative_to(DOCS)) for page in PAGES if f'"{page.relative_to(DOCS)}"' not in navigation] == []
    assert tomllib.loads(navigation)["project"]["validation"] == {"invalid_links": True, "invalid_link_anchors": True}


def test_the_comparison_has_the_version_and_the_numbers():
    page = (DOCS / "comparison.md").read_text()
    lines = [line.strip("| ").split("|") for line in (DOCS / "benchmarks.md").read_text().splitlines()]
    table = [[cell.strip() for cell in line] for line in lines]
    head = next(row for row in table if row[0] == "scenario")
    ours, theirs = (
        dict(zip(head, next(row for row in table if row[0] == name), strict=False)) for name in ("25/s", "25/s, SDK")
    )
    ratios = [row["ratio"].split()[0] for row in (theirs, ours)]
    assert f"takes {ratios[0]} of the ideal time where a sweep takes {ratios[1]} " in page
    assert f"{theirs['throttled'].replace('%', ' %')} of its requests are throttled (a sweep: none)" in page
    assert ours["throttled"] == "0.0%"
    [version] = re.findall(r"^extend-ai==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"This is version {version} of the SDK." in page


def cells(title):
    """The cells of each row of the tables below a heading of the page that explains what people see."""
    section = (DOCS / "troubleshooting.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:2] == "| "
    ]


def test_troubleshooting_has_every_outcome_and_reason():
    outcomes = {name for first, *_ in cells("What the report says of a run") for name in re.findall(r"^`(\w+)`", first)}
    assert outcomes == set(Outcome)
    left_out = {why for first, *_ in cells("A dry run shows 0")[1:] for why in first.split(", ")}
    assert left_out == {plain(why) for why in Exempt} | {"set aside"}


def test_troubleshooting_has_every_verdict_of_check():
    source = "".join(path.read_text() for path in (ROOT / "prefect_extend_ai" / "cli").glob("*.py"))
    given = {
        (subject, verdict.lower()) for subject, verdict in re.findall(r'Finding\(\s*"([\w ]+)", Verdict\.(\w+)', source)
    }
    bad = {(subject, verdict) for subject, verdict in given if verdict != "ok"}
    # These two name their subject once, and whose verdict depends is looked at by eye.
    bad |= {("Not swept", "warn"), ("Retention", "warn"), ("Sweeps", "warn")}
    assert {(subject, verdict.split(",")[0]) for subject, verdict, _ in cells("Verdicts of `check`")[1:]} == bad


def test_troubleshooting_quotes_what_is_said():
    source = " ".join(
        path.read_text() for room in ("prefect_extend_ai", "flows", "tasks") for path in (ROOT / room).rglob("*.py")
    )
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    quoted = re.findall(r'"([^"\n]+)"', (DOCS / "troubleshooting.md").read_text())
    parts = [part.strip() for each in quoted for part in re.split(r"\bN\b|\.\.\.", each) if part.strip()]
    assert len(parts) > 20
    assert [part for part in parts if part not in source] == []


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    public = {f"{module.__name__}.{name}" for module in (prefect_extend_ai, flows, tasks) for name in module.__all__}
    elsewhere = {
        "prefect_extend_ai.StalePolicy",  # a separate table
        *(
            f"prefect_extend_ai.{name}" for name in ("ExtendError", "SweepFailed", "SweepRefused")
        ),  # in the tree of errors
    }
    assert public - documented - elsewhere == set()


@pytest.mark.parametrize("words", list(command_lines()))
def test_the_command_line_takes_every_command(words):
    app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(("page", "block"), fenced("python"), ids=lambda value: getattr(value, "stem", ""))
def test_every_example_imports_what_there_is(page, block):
    imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), str(page), "exec"), {})


def links(page):
    """What a page in the checkout links to or shows, whatever way it is written in."""
    return Page(MarkdownIt("commonmark").render(page.read_text())).links


def test_the_readme_leads_somewhere_wherever_it_is_shown():
    assert [link for link in links(ROOT / "README.md") if not link.startswith("https://")] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/README.md"])
def test_every_link_into_the_repository_leads_somewhere(name):
    found = [urldefrag(urljoin(f"{REPOSITORY}blob/main/{name}", link)) for link in links(ROOT / name)]
    files = [(ROOT / path, anchor) for link, anchor in found if (path := file_in_checkout(link)) is not None]
    assert [str(file) for file, anchor in files if not file.exists() or (anchor and anchor not in anchors(file))] == []


def anchors(file):
    """What the web page of the repository calls the headings of a file."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
