"""The documentation as its readers see it: every page of the built site, in light and dark, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.site import REPOSITORY, broken_links, built_site, served
from support.ui import OUTPUT

ROOT = Path(__file__).parents[2]
PAGES = [path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
LOOKS = [
    pytest.param(scheme, width, id=f"{scheme}-{width}", marks=marks)
    for scheme, width, marks in [
        ("light", 1280, ()),
        ("light", 390, pytest.mark.nightly),
        ("dark", 1280, pytest.mark.nightly),
        ("dark", 390, pytest.mark.nightly),
    ]
]
WIDER_THAN_THE_PAGE = """() => {
    const width = document.documentElement.clientWidth
    const scrolls = element => element && (
        /auto|scroll|hidden/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement))
    const reaches = element => element.getBoundingClientRect().right > width + 1 && !scrolls(element.parentElement)
    const wide = [...document.querySelectorAll("article *")].filter(reaches).map(element => element.outerHTML)
    return document.documentElement.scrollWidth > width ? ["the page itself", ...wide] : wide
}"""
"""What is wider than the page: a wide table or block of code scrolls inside its own box."""
BROKEN_PICTURES = "() => [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built_site(tmp_path_factory.mktemp("site") / "checkout")


@pytest.fixture(scope="module")
def address(site):
    with served(site) as url:
        yield url


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_site_is_whole(chromium, address, name, scheme, width):
    with chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}) as context:
        page, wrong = context.new_page(), []
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or wrong.append(asked.url))
        page.on("response", lambda response: response.ok or wrong.append(f"{response.status} {response.url}"))
        page.goto(address + ("" if name == "index" else f"{name}/"))
        page.screenshot(path=OUTPUT / "site" / f"{name.replace('/', '-')}-{scheme}-{width}.jpg", full_page=True)
        assert page.evaluate(WIDER_THAN_THE_PAGE) == []
        assert page.evaluate(BROKEN_PICTURES) == []
        assert page.locator("h1").count() == 1
        assert wrong == []


@pytest.mark.parametrize(
    "broken",
    [
        '<a href="nowhere/">',
        '<a href="page/#nowhere">',
        '<a href="#nowhere">',
        '<img src="nowhere.png">',
        f'<a href="{REPOSITORY}blob/main/docs/nowhere.md">',
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, broken):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text('<h1 id="here">')
    whole = f'<a href="page/#here"><a href="{REPOSITORY}blob/main/README.md"><a href="https://example.com/nowhere">'
    (tmp_path / "index.html").write_text(whole + broken)
    assert list(broken_links(tmp_path, ROOT)) == [("index.html", broken.split('"')[1])]


def test_every_link_of_the_site_leads_somewhere(site):
    assert list(broken_links(site, ROOT)) == []
