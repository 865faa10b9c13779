"""The page of the advice on limits, read back by a markdown parser, and its chart."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from prefect_extend_ai.rendering.advice import advice_page
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.rules.advice import advice_from
from prefect_extend_ai.sweep.rules.past import PastRuns
from prefect_extend_ai.sweep.rules.policy import StalePolicy

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
READER = MarkdownIt("commonmark", {"html": True}).enable("table")
SVG = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


def advice(durations, cancelled=(), limit=60, **policy):
    """Advice on processors whose runs took these minutes, by processor."""
    past = PastRuns(RunKind.CLASSIFY, read_at=NOW)
    for processor, minutes in durations.items():
        for number, each in enumerate(minutes):
            status = "CANCELLED" if processor in cancelled and number < 3 else "PROCESSED"
            facts = {
                "id": f"clr_{processor}_{number}",
                "status": status,
                "classifier": {"id": processor} if processor else None,
                "createdAt": (NOW - timedelta(minutes=each)).isoformat(),
                "updatedAt": NOW.isoformat(),
            }
            past.see(Run.from_text("classify", json.dumps(facts), NOW), NOW)
    return advice_from(past, limit, StalePolicy(**policy))


def cells(page):
    """The rows of every table, as text."""
    rows, row = [], []
    for token in READER.parse(page):
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and token.level >= 4:
            row.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            rows.append([cell.replace("\u00a0", " ") for cell in row])
    return rows


def chart(page):
    (encoded,) = SVG.findall(page)
    return ET.fromstring(base64.b64decode(encoded))


def lines(svg):
    return [each for each in svg.iter() if each.tag.endswith("polyline")]


def words(svg):
    return [each.text for each in svg.iter() if each.tag.endswith("text")]


def test_a_page_has_one_sentence_a_chart_tables_and_a_policy():
    found = advice({"cl_fast": [2] * 300, "cl_slow": [*range(20, 120)]})
    page = advice_page(found)
    title, *_ = [token.content for token in READER.parse(page) if token.type == "inline"]
    assert (
        title.replace("\\", "")
        == "A limit of 60 minutes would have cancelled 59 of the last 400 healthy classify runs (15 %)"
    )
    rows = cells(page)
    assert ["cl_fast", "300", "2.0", "2.0", "2.0", "2.0", "15"] in rows
    assert ["cl_slow", "100", "69", "114", "118", "119", "180"] in rows
    assert ["cl_slow", "100 (100 %)", "89 (89 %)", "59 (59 %)", "0", "0"] in rows
    assert rows[-1][0] == "all"
    (fence,) = [token.content for token in READER.parse(page) if token.type == "fence"]
    policy = StalePolicy.model_validate(json.loads(fence))
    assert policy.minutes_by_processor == {"cl_fast": 15, "cl_slow": 180} == found.minutes_by_processor
    assert "upper bound" in page


def test_the_chart_has_a_curve_for_each_of_the_five_busiest():
    found = advice({f"cl_{number}": [5 + number] * (30 + number) for number in range(8)})
    svg = chart(advice_page(found))
    assert len(lines(svg)) == 5
    shown = words(svg)
    assert [word for word in shown if word.startswith("cl_")] == [f"cl_{number}" for number in (7, 6, 5, 4, 3)]
    assert "limit 60 min" in shown


@pytest.mark.parametrize("limit", [1, 60, 5_000_000])
@pytest.mark.parametrize("minutes", [[0], [0.2] * 30, [1] * 30, [5, 5000], [60 * 24 * 400]])
def test_every_point_of_a_curve_lies_on_the_plot(minutes, limit):
    svg = chart(advice_page(advice({"cl_a": minutes}, limit=limit)))
    for line in lines(svg):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        assert all(92 <= x <= 616.1 and 62 <= y <= 292 for x, y in points)
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        assert [y for _, y in points] == sorted(y for _, y in points)
    for path in (each.get("d") for each in svg.iter() if each.get("stroke-dasharray")):
        assert 92 <= int(re.match(r"M(\d+) ", path)[1]) <= 616


def test_what_is_unknown_is_said_instead_of_a_number():
    page = advice_page(advice({"cl_a": [20] * 100, "cl_b": [50] * 100}, cancelled={"cl_b"}))
    rows = cells(page)
    assert ["cl_b", "97", "50", "50", "?", "?", "unknown"] in rows
    assert ["cl_b", "97 (100 %)", "97 (100 %)", "unknown", "unknown", "unknown"] in rows
    assert "**Unknown, ?** (cl_b): more than 1 % of the runs were cancelled" in page
    assert "3 cancelled" in page
    assert any("tail unknown" in word for word in words(chart(page)))


def test_too_few_runs_are_said_instead_of_a_suggestion():
    page = advice_page(advice({"cl_a": [20] * 19}))
    assert "Only 19 classify runs finished: too few to suggest a limit" in page
    assert cells(page)[1][-1] == "too few"
    assert "minutes_by_processor" not in page


def test_without_runs_there_is_a_sentence_and_no_chart():
    page = advice_page(advice({}))
    assert page.startswith("## No classify run has finished")
    assert "data:image" not in page


def test_an_id_from_outside_stays_text_on_page_and_chart():
    hostile = '<img src=x onerror="x">|`[a](javascript:x)'
    page = advice_page(advice({hostile: [20] * 30, None: [3] * 30}))
    tokens = [child for token in READER.parse(page) for child in [token, *(token.children or [])]]
    assert not [token for token in tokens if token.type in {"html_inline", "html_block", "link_open"}]
    assert hostile in words(chart(page))
    assert "inline configuration" in words(chart(page))


def test_a_hundred_processors_fill_no_more_than_fifty_rows():
    page = advice_page(advice({f"cl_{number}": [5] * 20 for number in range(100)}))
    assert "and 50 more processors" in page
    assert len(cells(page)) == 2 * (1 + 50 + 1)
