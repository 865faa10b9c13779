"""A password in an address of Prefect's is in no text of ours."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_extend_ai.cli.check import check_prefect, run_check
from prefect_extend_ai.cli.local_prefect import free_port
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io import ArtifactStore, record_url
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.prefect_io.links import url_for

SECRET = "s3cret-4711"


@pytest.fixture
def api_url():
    """The address, with a password in it, of a Prefect that is not there."""
    url = f"http://ada:{SECRET}@127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ada:s3cret@host/api", "http://host/api"),
        ("see 'https://ada@host:4200' and http://:p@b/c?d=e@f", "see 'https://host:4200' and http://b/c?d=e@f"),
        ("https://ada:p@ss@host/api", "https://host/api"),
        ("https://ada:s3cret@[::1]:4200", "https://[::1]:4200"),
        ("https://host/@x mail ada@example.com", "https://host/@x mail ada@example.com"),
        ("http://host http://ada:x@b", "http://host http://b"),
        (None, "None"),
    ],
)
def test_an_address_is_shown_without_user_and_password(text, shown):
    assert without_password(text) == shown


async def test_check_shows_no_password(api_url, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where no .env names an account
    assert await run_check() == 1
    said = capsys.readouterr().out
    assert "does not answer" in said
    assert SECRET not in said


async def test_prefect_out_of_reach_is_named_without_password(api_url):
    found, _ = await check_prefect("extend")
    assert without_password(api_url) in found[0].text
    assert SECRET not in found[0].text


async def test_a_record_that_fails_names_no_password(api_url):
    request = httpx.Request("POST", f"{api_url}/artifacts/")

    async def refused(*_, **__):
        httpx.Response(503, request=request).raise_for_status()

    client = SimpleNamespace(api_url=httpx.URL(api_url), create_artifact=refused)
    with pytest.raises(RecordError) as caught:
        await ArtifactStore(client).write(type="markdown", data="")
    assert without_password(api_url) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_links_to_prefect_s_pages_have_no_password(api_url):
    links = [url_for("flow-run", obj_id=uuid4()), url_for("deployment", obj_id=uuid4()), record_url(uuid4())]
    ui = without_password(api_url).removesuffix("/api")
    assert all(link.startswith(ui) and SECRET not in link for link in links)
