"""The documentation as a site: built, served on loopback, and its links followed without a browser."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from support.packages import copy_of_the_checkout

HERE = "http://site/"
REPOSITORY = "https://github.com/prefect-extend-ai/prefect-extend-ai/"
FILES = (
    f"{REPOSITORY}blob/main/",
    f"{REPOSITORY}tree/main/",
    "https://raw.githubusercontent.com/prefect-extend-ai/prefect-extend-ai/main/",
)
"""Where addresses of the checkout's files begin."""


def built_site(place):
    """The site that `make docs` builds, from a copy of the checkout at `place`."""
    source = copy_of_the_checkout(place)
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return source / "site"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The address at which a folder is served on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Page(HTMLParser):
    """What a page links to or shows, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):  # noqa: ARG002
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id"))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def file_in_checkout(address):
    """The path in the checkout that an address of the repository on the web names, if it does."""
    start = next(filter(address.startswith, FILES), None)
    return start and unquote(urlsplit(address[len(start) :]).path)


def broken_links(site, checkout):
    """Each link or picture of a built site that is not there, in it or in the checkout. No other host is asked."""
    pages = {path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.rglob("*.html")}
    for name, page in pages.items():
        if name == "404.html":  # its addresses are those of wherever the site is served
            continue
        for link in page.links:
            address = urljoin(HERE + name, link)
            if (path := file_in_checkout(address)) is not None:
                is_broken = not (checkout / path).exists()
            elif address.startswith(HERE):
                path, anchor = unquote(urlsplit(address).path)[1:], unquote(urlsplit(address).fragment)
                path += "index.html" if path.endswith("/") or not path else ""
                is_broken = not (site / path).is_file() or (path in pages and anchor not in pages[path].anchors)
            else:
                continue
            if is_broken:
                yield name, link
