"""What documents say is data: nothing from outside becomes markup, or can pass for a record, where it is shown."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from urllib.parse import unquote
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from prefect_extend_ai.rendering import (
    escape,
    fence,
    link,
    part_pages,
    record_page,
    record_title,
    records,
    report_page,
    report_table,
    shared_record_page,
    unmarked,
    visible,
)
from prefect_extend_ai.rendering.inert import HIDDEN, address
from prefect_extend_ai.rendering.picture import STALE, YOUNG, draw_picture
from prefect_extend_ai.rendering.records import Whence, record_fragment
from prefect_extend_ai.rendering.words import age
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel, SweepReport
from prefect_extend_ai.sweep.rules.learning import LearnedLimit
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource
from prefect_extend_ai.sweep.rules.staleness import AGE_BANDS, age_band

# An independent reader of the markdown we write: what it finds is what a person would see.

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# Linkify makes links of more than GFM does (`evil.co`): what stays text here stays text anywhere.
KEEN_READER = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["table", "strikethrough", "linkify"])
for reader in (READER, KEEN_READER):
    # No filter of the reader's own: a `javascript:` link is found, and so is our picture.
    reader.validateLink = lambda _: True


@lru_cache(maxsize=4)
def parsed(markdown: str, reader: MarkdownIt = KEEN_READER) -> list[Token]:
    return reader.parse(markdown)


def blocks(markdown: str, kind: str, reader: MarkdownIt = KEEN_READER) -> list[Token]:
    return [token for token in parsed(markdown, reader) if token.type == kind]


def inline(markdown: str, kind: str | None = None, reader: MarkdownIt = KEEN_READER) -> list[Token]:
    tokens = [child for token in parsed(markdown, reader) for child in token.children or []]
    return [token for token in tokens if kind in (None, token.type)]


def text_of(tokens: list[Token] | None) -> str:
    return "".join(token.content for token in tokens or [])


def links(markdown: str) -> list[str]:
    return [str(token.attrs["href"]) for token in inline(markdown, "link_open")]


def html(markdown: str) -> list[str]:
    return [token.content for token in [*inline(markdown, "html_inline"), *blocks(markdown, "html_block")]]


def headings(markdown: str) -> list[str]:
    tokens = parsed(markdown)
    return [text_of(inside.children) for opened, inside in pairwise(tokens) if opened.type == "heading_open"]


def table_rows(markdown: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for opened, inside in pairwise(parsed(markdown)):
        if opened.type == "tr_open":
            rows.append([])
        elif opened.type == "td_open":
            rows[-1].append(text_of(inside.children))
    return [row for row in rows if row]


# Text

FRAGMENTS = [
    *("|", "||", "\n", "\r\n", "\n\n", "`", "``", "```", "```json\n", "~~~", "*", "**", "_", "__", "~~", "\\", "\\|"),
    *("# ", "- ", "1. ", "> ", "---", "===", "| --- | --- |", "    ", "\t", "&lt;", "&#124;", "&amp;", "&copy;"),
    *(
        "<b>",
        "</td>",
        "<!-- ",
        "-->",
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<https://evil.example>",
    ),
    *(
        "[",
        "]",
        "](",
        ")",
        "![x](http://evil.example/x.png)",
        "[x](javascript:alert(1))",
        "[^1]",
        "[x]: http://evil.example",
    ),
    *("http://", "https://evil.example/a_b", "http\\://evil.example", "https&#58;//evil.example", "www.evil.example"),
    *("ftp://evil.example", "//evil.example", "bob@evil.example", "mailto:bob@evil.example", "evil.co", "report.sh"),
    *(
        "\u202e",
        "\u2066",
        "\u200b",
        "\u00ad",
        "\x00",
        "\x1b[31m",
        "\u2028",
        "\ufeff",
        "\ud800",
        "\U000e0041",
        "請求書",
        "é",
        "📄",
    ),
    *("a", "1", " ", ".", ":", "@", "/", "invoice", "clr_Xy_5", "$x^2$", ":smile:", "{{ x }}", "+", "="),
]
hostile = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=12).map("".join)

# What remark, the renderer of Prefect's UI v2, makes links of in text that is parsed already
# (mdast-util-gfm-autolink-literal 2).
REMARK_AUTOLINKS = re.compile(r"(https?://|www(?=\.))([-.\w]+)|([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)", re.IGNORECASE)


@given(hostile.filter(visible))
def test_escaped_text_is_shown_as_it_is_and_is_nothing_else(text):
    tokens = inline(f"x {escape(text)} x")
    assert {token.type for token in tokens} <= {"text", "code_inline"}
    assert text_of(tokens) == f"x {visible(text)} x"
    assert not any(REMARK_AUTOLINKS.search(token.content) for token in tokens if token.type == "text")


@pytest.mark.parametrize(
    ("before", "opened"),
    [("", "paragraph"), ("- ", "list_item"), ("# ", "heading"), ("text\n", "paragraph"), ("> ", "blockquote")],
)
@given(text=hostile.filter(visible))
def test_escaped_text_opens_no_block_at_the_start_of_a_line(before, opened, text):
    harmless = [token.type for token in KEEN_READER.parse(f"{before}x")]
    assert f"{opened}_open" in harmless
    assert [token.type for token in KEEN_READER.parse(f"{before}{escape(text)}")] == harmless


@given(st.lists(st.tuples(hostile, hostile), min_size=1, max_size=4))
def test_a_table_of_escaped_cells_keeps_its_rows_and_cells(rows):
    lines = ["| A | B |", "| --- | --- |", *(f"| {escape(left)} | {escape(right)} |" for left, right in rows)]
    assert table_rows("\n".join(lines)) == [[visible(left), visible(right)] for left, right in rows]


@given(hostile, st.integers(min_value=1, max_value=50))
def test_no_more_is_shown_than_the_limit_allows(text, limit):
    raw = re.sub(r"\s+", " ", text).strip()
    line = visible(text, limit)
    if len(raw) <= limit:
        assert line == HIDDEN.sub(lambda found: visible(found[0]), raw)
    else:
        assert line.endswith("…")
        assert len(re.sub(r"\\u[0-9A-F]{4}|\\U[0-9A-F]{8}", "?", line)) <= limit


def test_hidden_characters_are_written_out():
    assert visible("\u202egpj.exe\u200b\x00\U000e0041") == r"\u202Egpj.exe\u200B\u0000\U000E0041"


def test_every_control_character_counts_as_hidden():
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    missed = [
        hex(point)
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) in hidden and chr(point) not in "\t\n\r" and not HIDDEN.match(chr(point))
    ]
    assert missed == []


@given(st.text())
def test_no_hidden_character_is_left(text):
    assert not HIDDEN.search(visible(text))


def test_ordinary_text_stays_readable_in_the_source():
    said = "No change for 3 h 10 min; the limit is 60 min. See clr__Xy5 and clr_a_-b__ (2026-03-01 09:30:05 UTC)"
    assert escape(said) == said


@given(hostile)
def test_unmarked_text_is_not_markup_and_needs_no_backslash(text):
    tokens = inline(unmarked(text), reader=READER)
    found = {token.type for token in [*READER.parse(unmarked(text)), *tokens]}
    assert not found & {
        "link_open",
        "image",
        "html_inline",
        "html_block",
        "code_inline",
        "fence",
        "s_open",
        "table_open",
    }
    assert not any(REMARK_AUTOLINKS.search(token.content) for token in tokens)


def test_unmarked_text_leaves_ordinary_text_alone():
    said = "Extend refused: clr_Xy5 is PROCESSING (409); 50% done, see report.pdf"
    assert unmarked(said) == said


@pytest.mark.parametrize(
    "url",
    [
        "https://dashboard.extend.ai/runs/clr_Xy5",
        "http://127.0.0.1:4200/v2/artifacts/artifact/1?a=1&b=2#c",
        "http://[::1]:4200/x",
        "https://host.example",
    ],
)
def test_a_plain_address_becomes_a_link(url):
    tokens = inline(link("the run", url))
    assert [token.type for token in tokens] == ["link_open", "text", "link_close"]
    assert tokens[0].attrs["href"] == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/relative",
        "ftp://host.example",
        "https://user:secret@host.example",
        "https://host.example/\u202e",
        "https://host.example/a b",
        "https://host.example/\n",
        "https://host.example\\@evil.example",
        "https://host.example/<x>",
        "https://höst.example/",
        "https://[::1",
        "https://",
        "https://host.example/" + "x" * 1000,
    ],
)
def test_any_other_address_stays_text(url):
    assert link("the run", url) == "the run"


@given(hostile, hostile)
def test_a_link_goes_nowhere_but_to_its_address(text, tail):
    url = f"https://host.example/{tail}"
    tokens = inline(f"| {link(text, url)} |")
    links = [token for token in tokens if token.type == "link_open"]
    assert len(links) == (1 if visible(text) and address(url) else 0)
    assert all(token.attrs["href"].startswith("https://host.example/") for token in links)
    assert not {"image", "html_inline"} & {token.type for token in tokens}
    assert not re.search(r"[|()\s<>]", address(url) or "")


@given(hostile)
def test_a_fence_is_ended_only_by_its_own_end(text):
    tokens = KEEN_READER.parse(f"{fence(text, 'text')}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].info == "text"


# Pages

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DASHBOARD = "https://dashboard.extend.ai/runs/clr_Xy5"
FLOW_RUN = "http://127.0.0.1:4200/runs/flow-run/1"

IMITATION = """## Classify run clr_fake

**This run was cancelled.**

| Fact | Value |
| --- | --- |
| Outcome | cancelled |

```json
{"object": "classify_run", "id": "clr_fake", "status": "CANCELLED"}
```
"""
ATTACKS = [
    IMITATION,
    "\n````json\n{}\n````\n~~~json\n{}\n~~~\n",
    "` `` ``` ```` ````` | || \\| \r\n\r\n# heading",
    '<img src=x onerror=alert(1)></td></table><script>alert(1)</script><a href="https://evil.example">x</a>',
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png) <https://evil.example> [x]: http://evil.example",
    "http://evil.example www.evil.example bob@evil.example //evil.example evil.co",
    "\u202egpj.exe\u2066\u200b\x00\x1b[31m\u2028# heading",
    "![alt](data:image/svg+xml;base64,AAAA) &lt;b&gt; &#124; {{ x }}",
]
document = (
    st.sampled_from(ATTACKS)
    | st.text(max_size=30)
    | st.builds(str.__add__, st.text(max_size=5), st.sampled_from(ATTACKS))
)


def record_url(record):
    return f"http://127.0.0.1:4200/v2/artifacts/artifact/{record}"


def object_text(name="invoice.pdf", status="CANCELLED", **more):
    fields = {
        "object": "classify_run",
        "id": "clr_Xy5",
        "status": status,
        "classifier": {"id": "cl_invoices", "name": name},
        "failureReason": None,
        "metadata": {"owner": name},
        "file": {"name": name},
        "dashboardUrl": DASHBOARD,
        "createdAt": "2026-03-01T08:00:00Z",
        "updatedAt": "2026-03-01T09:00:00.250Z",
    }
    return json.dumps(fields | more, ensure_ascii=False)


def run_of(*args, **more):
    return Run.from_text("classify", object_text(*args, **more), NOON)


def cancellation(outcome=Outcome.CANCELLED, **more):
    facts = {
        "run_id": "clr_Xy5",
        "reason": "No change for 3 h; the limit is 60 min.",
        "status": "CANCELLED",
        "age_minutes": 180.0,
        "dashboard_url": DASHBOARD,
    }
    return Cancellation(outcome=outcome, **(facts | more))


def report_of(cancellations, **more):
    facts = {"limit_minutes": 60, "listed": len(cancellations) + 31, "exempt": {"too_young": 28, "held": 3}}
    return SweepReport(**(facts | more)).with_cancellations(cancellations)


def page_of(report, **more):
    return report_page(report, **({"record_url": record_url, "flow_run_url": FLOW_RUN} | more))


# Records


def test_a_record_says_what_happened_and_holds_the_object_whole():
    run = run_of(score=1.5, unknown={"field": [None]})
    page = record_page(run, cancellation())
    assert headings(page) == ["Classify run clr_Xy5"]
    assert "**This run was cancelled.** No change for 3 h; the limit is 60 min." in page
    assert table_rows(page) == [
        ["Outcome", "cancelled"],
        ["Status", "CANCELLED"],
        ["Failure reason", "none"],
        ["Age at the last read", "3 h"],
        ["Processor", "cl_invoices"],
        ["Created", "2026-03-01 08:00:00 UTC"],
        ["Last change", "2026-03-01 09:00:00 UTC"],
        ["Read", "2026-03-01 12:00:00 UTC"],
        ["File", "invoice.pdf"],
        ["Dashboard", "open in Extend"],
    ]
    assert links(page) == [DASHBOARD]
    (fence,) = blocks(page, "fence")
    assert fence.info == "json"
    assert json.loads(fence.content) == run.raw


@given(document)
def test_the_parts_of_a_large_object_joined_are_the_object(text):
    run = run_of(failureMessage=text, pages=[text] * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "PART", 100)
        pages = list(part_pages(run))
    strings = []
    for place, page in enumerate(pages, start=1):
        assert headings(page) == [f"Classify run clr_Xy5, part {place} of {len(pages)}"]
        (fence,) = blocks(page, "fence")
        assert fence.info == "text"
        assert not HIDDEN.search(page)
        strings.append(json.loads(fence.content))
    assert json.loads("".join(strings)) == run.raw


def test_a_record_in_parts_says_where_they_are_and_has_no_object():
    page = record_page(run_of(), cancellation(), [link("part", DASHBOARD), "somewhere"])
    assert "in 2, in this order. Each holds a JSON string" in page
    assert links(page) == [DASHBOARD, DASHBOARD]
    assert blocks(page, "fence") == []


@given(document, document, document, document)
def test_nothing_in_a_document_can_pass_for_a_record(name, status, reason, address):
    run = run_of(
        name, status, failureReason=name, failureMessage=name, dashboardUrl=address, files=[{"name": name}] * 5
    )
    page = record_page(run, cancellation(reason=reason))
    (fence,) = blocks(page, "fence")
    assert json.loads(fence.content) == run.raw
    assert headings(page) == ["Classify run clr_Xy5"]
    assert [row[0] for row in table_rows(page)][-2:] == ["Files", "Dashboard"]
    assert len(table_rows(page)) == 10
    assert (links(page), inline(page, "image"), html(page)) == ([], [], [])


@given(st.lists(st.tuples(document, st.sampled_from(Outcome)), min_size=1, max_size=5))
def test_runs_that_share_a_page_have_a_heading_and_object_each(documents):
    pairs = [
        (run_of(name, id=f"clr_{place}"), cancellation(outcome, reason=name))
        for place, (name, outcome) in enumerate(documents)
    ]
    page = shared_record_page(pairs)
    assert headings(page)[1:] == [f"Classify run clr_{place}" for place in range(len(pairs))]
    assert [json.loads(fence.content) for fence in blocks(page, "fence")] == [run.raw for run, _ in pairs]
    assert set(links(page)) == {DASHBOARD}
    assert (inline(page, "image"), html(page)) == ([], [])


def test_a_record_of_two_megabytes_is_whole():
    run = run_of("invoice.pdf", output={"insights": [{"content": IMITATION} for _ in range(9000)]})
    assert len(run.text) > 2_000_000
    (fence,) = blocks(record_page(run, cancellation()), "fence")
    assert json.loads(fence.content) == run.raw


def test_numbers_keep_their_letters_in_a_record():
    text = object_text().replace('"failureReason": null', '"credits": 1.50, "failureReason": null')
    assert '"credits": 1.50' in record_page(Run.from_text("classify", text), cancellation())


def test_a_title_is_one_line_without_markup():
    assert record_title(run_of()) == "Classify run clr_Xy5: CANCELLED"
    assert record_title(run_of(status="<b>\n[x](y)")) == "Classify run clr_Xy5: \u2039b\u203a (x)(y)"
    assert record_title(run_of(status=None)) == "Classify run clr_Xy5: status unknown"


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_record_that_names_it(outcome):
    assert ["Outcome", outcome.replace("_", " ")] in table_rows(record_page(run_of(), cancellation(outcome)))


# Reports


def test_a_report_begins_with_what_happened_and_what_to_do():
    report = report_of([cancellation(), cancellation(Outcome.FINISHED_FIRST)])
    first, mark = page_of(report).split("\n\n")[:2]
    assert first == f"## {report.headline}"
    assert "No action required" in mark
    assert "What to do next" not in page_of(report)


@given(
    st.lists(st.sampled_from(Outcome), max_size=3),
    st.fixed_dictionaries(
        {}, optional={"refusal": st.just("too many"), "trouble": st.just("HTTP 401"), "unrecorded": st.integers(0, 2)}
    ),
)
def test_no_action_required_is_said_exactly_where_it_is_true(outcomes, facts):
    report = report_of([cancellation(outcome) for outcome in outcomes], **facts)
    page = page_of(report)
    assert ("No action required" in page) == (not report.needs_attention)
    assert ("Action required:" in page) == report.needs_attention
    assert ("### What to do next\n\n- " in page) == report.needs_attention


STILL_THERE = (Outcome.UNCONFIRMED, Outcome.REFUSED)
"""Outcomes of runs that were asked to be cancelled, and are not."""


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.needs_attention])
def test_a_report_with_an_open_end_says_what_to_do_and_why(outcome):
    page = page_of(report_of([cancellation(outcome, reason="Because of this."), cancellation()]))
    assert "Action required:" in page.split("\n\n")[1]
    _, _, steps = page.partition("### What to do next")
    assert "- clr_Xy5: Because of this." in steps.partition("###")[0]


def test_next_steps_group_runs_by_reason_up_to_a_number():
    many = [cancellation(Outcome.ERROR, run_id=f"clr_{place}", reason="The same.") for place in range(13)]
    others = [cancellation(Outcome.ERROR, run_id=f"clr_x{place}", reason=f"Reason {place}.") for place in range(11)]
    steps = page_of(report_of(many + others)).partition("### What to do next")[2].partition("###")[0]
    assert "- clr_0, clr_1, clr_2, clr_3, clr_4, clr_5, clr_6, clr_7, clr_8, clr_9 and 3 more: The same." in steps
    assert steps.count("- clr_") == 10
    assert "- and 2 more reasons" in steps


def test_what_stopped_a_sweep_early_is_the_first_next_step():
    page = page_of(report_of([cancellation()], trouble="HTTP 401: check the API key"))
    assert "**stopped early**: HTTP 401: check the API key" in page.partition("### What to do next")[2]


@pytest.mark.parametrize("outcome", Outcome)
def test_text_for_the_vendor_names_runs_whose_cancel_did_not_end(outcome):
    page = page_of(report_of([cancellation(outcome, request_ids=["req_1", "req_2"]), cancellation()]))
    notes = blocks(page, "fence")
    assert len(notes) == (1 if outcome in STILL_THERE else 0)
    expected = ("clr_Xy5", "req_1, req_2", outcome, "POST /classify_runs/ID/cancel")
    assert all(words in note.content for note in notes for words in expected)


def test_a_refused_sweep_says_what_the_guard_said():
    report = SweepReport(limit_minutes=60, listed=6000, refusal="6000 stale runs are more than refuse_above allows.")
    page = page_of(report)
    assert "a guard refused this sweep" in page.split("\n\n")[1]
    assert page.count("6000 stale runs are more than refuse_above allows.") == 2
    assert blocks(page, "fence") == []


def test_numbers_have_denominators():
    nothing = page_of(report_of([], recovered=[Cancellation(run_id="clr_1", outcome=Outcome.CANCELLED, reason="")] * 2))
    assert table_rows(nothing) == [
        ["listed", "31", ""],
        ["left out: too young", "28", "31 listed"],
        ["left out: held", "3", "31 listed"],
        ["selected", "0", "31 listed"],
        ["recorded for earlier, interrupted sweeps", "2", ""],
    ]
    by_id = page_of(report_of([cancellation()], limit_minutes=None, listed=0, exempt={}))
    assert table_rows(by_id)[:2] == [["selected", "1", ""], ["cancelled", "1", "1 selected"]]


def test_a_report_of_nothing_at_all_is_a_page_all_the_same():
    page = page_of(SweepReport(limit_minutes=60), flow_run_url=None)
    assert headings(page) == ["No stale classify runs to cancel"]
    assert (links(page), table_rows(page)) == ([], [])


def test_each_run_is_linked_to_its_dashboard_and_its_record():
    record = UUID(int=7)
    page = page_of(report_of([cancellation(record=record)]))
    # At the heading of the run, for a record may hold several.
    assert links(page) == [FLOW_RUN, DASHBOARD, f"{record_url(record)}#:~:text=Classify%20run%20clr_Xy5"]
    assert ["clr_Xy5", "cancelled", "3\u00a0h", "record", "No change for 3 h; the limit is 60 min."] in table_rows(page)


def test_report_and_record_link_the_events_of_each_run():
    def events(kind, run_id):
        return f"http://127.0.0.1:4200/events?resource=extend.{kind.object_name}.{run_id}"

    theirs = events(RunKind.CLASSIFY, "clr_Xy5")
    assert links(page_of(report_of([cancellation()]), events_url=events)) == [FLOW_RUN, DASHBOARD, theirs]
    whence = Whence(FLOW_RUN, events)
    assert links(record_page(run_of(), cancellation(), whence=whence))[:2] == [FLOW_RUN, theirs]


def test_a_record_says_why_by_which_sweep_and_the_last_change():
    known = cancellation(
        age_minutes=81.2,
        limit=Limit(60, LimitSource.PERSON),
        last_change=datetime(2026, 3, 1, 9, 30, 5, tzinfo=UTC),
    )
    rows = table_rows(record_page(run_of(), known, whence=Whence(FLOW_RUN)))
    assert ["Why", "no change for 81 min, limit 60 min"] in rows
    assert ["Last change before the cancel", "2026-03-01 09:30:05 UTC"] in rows
    assert ["Sweep", "flow run"] in rows


def test_a_link_lands_on_the_heading_of_its_run_alone():
    runs = [run_of(id=f"clr_{place}-x") for place in range(3)]
    page = shared_record_page([(run, cancellation(run_id=run.id)) for run in runs])
    for run in runs:
        # What a browser looks for: https://wicg.github.io/scroll-to-text-fragment, a dash is part of its syntax.
        _, sought = record_fragment(run.kind, run.id).split("#:~:text=")
        assert "-" not in sought
        shown = "".join(token.content for token in MarkdownIt().parse(page) if token.type == "inline")
        assert shown.replace("\\", "").count(unquote(sought)) == 1


def test_a_status_is_shown_where_it_says_more_than_the_outcome():
    page = page_of(report_of([cancellation(status="FAILED")]))
    assert "cancelled (FAILED)" in page


def test_runs_that_need_attention_come_first_rest_is_counted():
    many = [cancellation(run_id=f"clr_{place}") for place in range(150)]
    many[149] = cancellation(Outcome.REFUSED, run_id="clr_149")
    page = page_of(report_of(many), rows=100)
    shown = [row[0] for row in table_rows(page) if row[0].startswith("clr_")]
    assert shown == ["clr_149", *(f"clr_{place}" for place in range(99))]
    assert page.endswith("and 50 more in the table artifact")


def test_the_rules_of_the_sweep_are_listed():
    page = page_of(report_of([]), policy_lines=[("hold_key", "pre|fect"), ("max_cancellations", "500")])
    assert table_rows(page)[-2:] == [["hold_key", "pre|fect"], ["max_cancellations", "500"]]


@given(document, document, document, st.sampled_from(Outcome))
def test_nothing_from_outside_becomes_markup_in_a_report(run_id, reason, status, outcome):
    one = cancellation(
        outcome, run_id=run_id, reason=reason, status=status, dashboard_url=reason, request_ids=[reason, status]
    )
    report = report_of([one, one], workspace_id=status, exempt={reason: 1}, ages={"1 to 2": 2})
    page = page_of(report, policy_lines=[(run_id, reason)])
    numbers, runs, rules = 4, 2, 1
    assert len(table_rows(page)) == numbers + runs + rules
    assert len(blocks(page, "fence")) == (1 if outcome in STILL_THERE else 0)
    assert set(headings(page)) <= {report.headline, "What to do next", "Numbers", "Runs", "Rules"}
    assert links(page) == [FLOW_RUN]
    (image,) = inline(page, "image")
    assert image.attrs["src"].startswith("data:image/svg+xml;base64,")
    assert html(page) == []


@settings(max_examples=2)
@given(document)
def test_fifty_thousand_cancellations_stay_a_page_and_a_table(nasty):
    long = (nasty + "|<`*\u202e") * 200
    one = cancellation(
        Outcome.ERROR, run_id=long, reason=long, status=long, dashboard_url=f"{DASHBOARD}/{'x' * 950}",
        request_ids=[long] * 20, record=UUID(int=1),
    )  # fmt: skip
    report = report_of([one] * 50_000, exempt={f"{long}{place}": 1 for place in range(500)}, refusal=long)
    assert len(page_of(report).encode()) < 400_000
    rows = report_table(report, record_url)
    assert rows
    assert len(json.dumps(rows)) < 1_000_000


def test_a_table_row_has_the_same_scalars_and_attention_first():
    bare = Cancellation(run_id="clr_1", outcome=Outcome.NOT_FOUND, reason="")
    full = cancellation(Outcome.REFUSED, record=UUID(int=7), age_minutes=61.26, limit=Limit(60, LimitSource.PERSON))
    rows = report_table(report_of([bare, full]), record_url)
    assert rows == [
        {
            "run": "clr_Xy5",
            "outcome": "refused",
            "age_minutes": 61.3,
            "limit_minutes": 60,
            "limit_source": "person",
            "status": "CANCELLED",
            "reason": "No change for 3 h; the limit is 60 min.",
            "dashboard": DASHBOARD,
            "record": record_url(UUID(int=7)),
        },
        {
            "run": "clr_1",
            "outcome": "not_found",
            "age_minutes": "",
            "limit_minutes": "",
            "limit_source": "",
            "status": "",
            "reason": "",
            "dashboard": "",
            "record": "",
        },
    ]


def test_a_table_has_five_thousand_rows_at_most():
    one = cancellation(reason="", dashboard_url=None)
    assert len(report_table(report_of([one] * 6000), record_url)) == 5000


@given(document, document)
@example("/", "")
def test_a_table_links_nothing_but_plain_addresses(text, url):
    (row,) = report_table(
        report_of([cancellation(run_id=text, reason=text, status=text, dashboard_url=url)]), record_url
    )
    assert row["dashboard"] == ""
    # Each cell for itself: side by side they are one on the page as little as they are one here.
    for cell in ("run", "reason", "status"):
        assert not re.search(r"[<>\[\]`|]|//|@", str(row[cell]))


# The picture


def svg_of(markdown):
    (image,) = inline(markdown, "image")
    return image, ET.fromstring(b64decode(image.attrs["src"].split(",", 1)[1]))


def test_the_chart_draws_and_describes_every_band():
    drawn, svg = svg_of(draw_picture(report_of([cancellation()] * 3, ages={"up to ½": 18, "over 20": 1})))
    words = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word in AGE_BANDS] == AGE_BANDS
    assert "18" in words
    assert "up to ½ 18" in drawn.content


def test_the_picture_colours_what_is_over_the_limit():
    limit = timedelta(minutes=60)
    _, svg = svg_of(draw_picture(SweepReport(limit_minutes=60, ages=dict.fromkeys(AGE_BANDS, 1))))
    colours = [bar.attrib["fill"] for bar in svg.iter("{http://www.w3.org/2000/svg}rect")][1:]
    drawn = dict(zip(AGE_BANDS, colours, strict=True))
    assert drawn[age_band(limit, limit)] == YOUNG
    assert drawn[age_band(limit + timedelta(seconds=1), limit)] == STALE


def test_the_longest_bar_fits_and_the_smallest_is_seen():
    _, svg = svg_of(draw_picture(SweepReport(limit_minutes=60, ages={"up to ½": 99_999, "over 20": 1})))
    card, *bars = [float(bar.attrib["width"]) for bar in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert max(bars) < card - 200
    assert min(width for width in bars if width) >= 2


def test_no_picture_of_nothing():
    assert draw_picture(SweepReport(limit_minutes=60)) == ""


# Words


def test_an_unknown_age_is_left_empty():
    assert (age(None), age(200)) == ("", "3 h 20 min")


def test_a_report_says_which_clock_is_wrong():
    page = page_of(report_of([], clock_difference_seconds=7300.0, clock_suspect="extend"))
    assert "⚠️ Extend's clock is 2 h 2 min ahead of the local one. Extend's is likely the wrong one" in page
    assert "clock" not in page_of(report_of([]))


def test_a_report_names_runs_that_look_held_as_text():
    hostile = ["clr_1|`x`", "<b>", "[a](http://evil.example)", "clr_4"]
    page = page_of(report_of([], looks_held=hostile))
    said = text_of(inline(page))
    assert "4 stale runs have metadata that looks like a hold, but not under the hold key of this sweep" in said
    assert "clr_1|`x`, <b>, [a](http://evil.example), ...)" in said
    assert not [link for link in links(page) if "evil" in link]
    assert html(page) == []
    assert "1 stale run has metadata" in page_of(report_of([], looks_held=["clr_1"]))


def pending(run_id="clr_9", **facts):
    since = datetime(2026, 3, 1, 9, tzinfo=UTC)
    known = {"attempts": 2, "outcome": Outcome.UNCONFIRMED, "status": "CANCELLING", "request_ids": ["req_7"]}
    return PendingCancel(run_id=run_id, since=since, **known | facts)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "reported before"),
        ({"is_news": True}, "**still pending**: 1 run of earlier sweeps"),
        ({"is_news": True, "set_aside": True}, "**set aside**: 1 run pending for 24 hours"),
        ({"outcome": None, "attempts": None}, "its sweep was interrupted"),
        ({"outcome": Outcome.CANCELLED}, "its final object is not recorded yet"),
    ],
)
def test_a_report_says_what_is_pending_and_what_to_do(facts, says):
    report = SweepReport(limit_minutes=60, pending=[pending(**facts)])
    page = page_of(report)
    assert "### Pending from earlier sweeps" in page
    assert says in page
    assert ("Action required:" in page) == bool(facts.get("is_news"))
    assert ("Hello Extend support" in page) == (facts.get("outcome", True) is True)


def test_a_hostile_id_that_is_pending_stays_text():
    hostile = pending("[a](http://x.example)|<b>`", status="</td>|")
    found, harmless = (marks_of(SweepReport(limit_minutes=60, pending=[each])) for each in (hostile, pending()))
    assert found == harmless


def marks_of(report):
    """How often each kind of markup comes in a report's page; code apart, which keeps what it holds from being any."""
    tokens = MarkdownIt().enable("table").parse(page_of(report))
    every = [child for token in tokens for child in [token, *(token.children or [])]]
    return Counter(token.type for token in every if token.type not in ("code_inline", "text"))


def test_each_run_is_shown_with_its_limit_and_who_set_it():
    shown = {
        LimitSource.PERSON: "limit 60 min",
        LimitSource.PROCESSOR: "its processor's limit 60 min",
        LimitSource.LEARNED: "learned limit 60 min",
        LimitSource.RUN: "its own limit 60 min",
        LimitSource.TOTAL: "limit 60 min since its creation",
    }
    runs = [cancellation(run_id=f"clr_{source}", reason="why", limit=Limit(60, source)) for source in LimitSource]
    rows = {row[0]: row[-1] for row in table_rows(page_of(report_of(runs)))}
    assert {source: rows[f"clr_{source}"] for source in LimitSource} == {
        source: f"why; {words}" for source, words in shown.items()
    }


def test_what_was_learned_is_on_the_page_with_what_it_spared():
    slow = LearnedLimit(processor="cl_|slow", minutes=95, finished=400, p99_minutes=62.5, spared=3)
    idle = LearnedLimit(processor="cl_idle", minutes=240, finished=20, p99_minutes=3000, spared=0)
    rows = table_rows(page_of(report_of([], learned_limits=[idle, slow])))
    assert ["cl_|slow", "95\u00a0min", "400", "62 min", "3"] in rows
    assert rows.index(["cl_|slow", "95\u00a0min", "400", "62 min", "3"]) < rows.index(
        ["cl_idle", "240\u00a0min", "20", "2 d 2 h", "0"]
    )


def test_limits_without_effect_are_warned_of():
    page = page_of(report_of([], not_learned="HTTP 500: <b>", ignored_limits=[f"clr_{n}" for n in range(5)]))
    shown = "".join(token.content for token in inline(page))
    assert "No limits could be learned, so the limits of the policy held: HTTP 500: <b>" in shown
    assert "5 runs in progress have a prefect_max_minutes in the metadata that is not a number" in shown
    assert "clr_0, clr_1, clr_2, ..." in shown
