"""The block takes what can be used, refuses the rest in words, and keeps its key to itself."""

from __future__ import annotations

import pickle
import traceback
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from prefect_extend_ai import credentials as credentials_module
from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError, ExtendNotFoundError, SharedLimitError

KEY = "sk_do-not-show-4711"


class TestBlockStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self):
        return ExtendCredentials

    def test_has_a_valid_image(self, block):
        """The suite's own version downloads the logo. This block has none: see the class."""
        assert block._logo_url is None


def test_the_names_that_deployments_use_are_fixed():
    assert ExtendCredentials._block_type_name == "Extend Credentials"
    assert ExtendCredentials.get_block_type_slug() == "extend-credentials"


def test_a_key_is_all_it_takes():
    credentials = ExtendCredentials(api_key=KEY)
    assert credentials.api_key.get_secret_value() == KEY
    assert credentials.api_url == "https://api.extend.ai"
    assert credentials.requests_per_second == 10
    assert credentials.api_version == "2026-02-09"
    credentials.ensure_usable()
    assert isinstance(credentials.get_client(), ExtendClient)


@pytest.mark.parametrize(
    ("region", "url"),
    [("us", "https://api.extend.ai"), ("us2", "https://api.us2.extend.app"), ("eu", "https://api.eu1.extend.ai")],
)
def test_each_region_has_its_address(region, url):
    assert ExtendCredentials(api_key=KEY, region=region).api_url == url


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://extend.bank.example", "https://extend.bank.example"),
        ("https://gateway.example:8443/extend/", "https://gateway.example:8443/extend"),
        ("HTTPS://Extend.Bank.example/", "https://extend.bank.example"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("", "https://api.eu1.extend.ai"),
        ("  ", "https://api.eu1.extend.ai"),
    ],
)
def test_a_base_url_wins_over_the_region(base_url, url):
    assert ExtendCredentials(api_key=KEY, region="eu", base_url=base_url).api_url == url


ASTERISKS = r"asterisks.*Prefect stores.*retried from the UI.*deployment.*saved block"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"api_key": ""}, "the API key is empty"),
        ({"api_key": " \t\n"}, "the API key is empty"),
        ({"api_key": "**********"}, ASTERISKS),
        ({"api_key": "*"}, ASTERISKS),
        ({"api_key": f"{KEY}\n"}, "line break"),
        ({"api_key": f" {KEY}"}, "a space"),
        ({"api_key": f"{KEY} x"}, "a space"),
        ({"api_key": f"{KEY}\r\nx-evil: 1"}, "line break"),
        ({"api_key": f"{KEY}é"}, "cannot be sent"),
        ({"api_key": f"{KEY}\x7f"}, "cannot be sent"),
        ({"api_key": f"{KEY}\u200b"}, "cannot be sent"),
        ({"workspace_id": "ws_1\nx"}, "line break"),
        ({"workspace_id": "ws 1"}, "a space"),
        ({"workspace_id": "ws_é"}, "cannot be sent"),
        ({"api_version": ""}, "is empty"),
        ({"api_version": "2026\n"}, "line break"),
        ({"region": "mars"}, "'us', 'us2' or 'eu'"),
        ({"base_url": "http://api.extend.ai"}, "must begin with https://"),
        ({"base_url": "http://localhost.evil.example"}, "must begin with https://"),
        ({"base_url": "http://128.0.0.1"}, "must begin with https://"),
        ({"base_url": "ftp://localhost"}, "must begin with https://"),
        ({"base_url": "api.extend.ai"}, "has no host"),
        ({"base_url": "https://"}, "has no host"),
        ({"base_url": "https:///path"}, "has no host"),
        ({"base_url": "https://h:port"}, "is not an address"),
        ({"base_url": "http://127.0.0.1:99999"}, "an invalid port"),
        ({"base_url": "https://user:geheim@h"}, "user name"),
        ({"base_url": "https://geheim@h"}, "user name"),
        ({"base_url": "https://h/?key=geheim"}, "a query"),
        ({"base_url": "https://h/?"}, "a query"),
        ({"base_url": "https://h/#geheim"}, "a fragment"),
        ({"base_url": "https://h /"}, "a space"),
        ({"base_url": "https://h\n"}, "a line break"),
        ({"requests_per_second": 0}, "greater than 0"),
        ({"requests_per_second": -1}, "greater than 0"),
        ({"requests_per_second": float("inf")}, "finite"),
        ({"requests_per_second": float("nan")}, "finite"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_it(fields, reason):
    given_fields = {"api_key": KEY} | fields
    with pytest.raises(ValidationError, match=reason) as caught:
        ExtendCredentials(**given_fields)
    assert_hides_the_key(f"{caught.value} {caught.value!r}")
    _assert_our_frames_hide_the_key(caught.value)

    # The same block saved by Prefect's UI, which does not validate: it is refused when the flow starts.
    unchecked = ExtendCredentials.model_construct(**given_fields)
    for use in (unchecked.ensure_usable, unchecked.get_client):
        with pytest.raises(ExtendInputError, match=reason) as refused:
            use()
        assert "Fix the Extend Credentials block" in str(refused.value)
        assert_hides_the_key(str(refused.value))
        _assert_our_frames_hide_the_key(refused.value)


def assert_hides_the_key(text):
    assert KEY not in text
    assert "geheim" not in text


def _assert_our_frames_hide_the_key(error):
    """Frames of this test hold what it gave; frames of the package must not."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None:
            continue
        waiting += [each.__cause__, each.__context__]
        for frame in traceback.TracebackException.from_exception(each, capture_locals=True).stack:
            if "prefect_extend_ai" in frame.filename:
                assert KEY not in f"{frame.locals}"


def test_a_block_saved_without_a_key_is_refused_when_used():
    with pytest.raises(ExtendInputError, match=r"api_key: .*Fix the Extend Credentials block"):
        ExtendCredentials.model_construct(api_key=None).ensure_usable()


def test_a_block_loaded_without_validation_works_if_right():
    unchecked = ExtendCredentials.model_construct(api_key=KEY)
    assert isinstance(unchecked.get_client(), ExtendClient)


@given(st.text())
def test_a_key_is_accepted_only_if_it_fits_a_header_unchanged(key):
    try:
        taken = ExtendCredentials(api_key=key).api_key.get_secret_value()
    except ValidationError:
        assert not key.strip("*") or not key.isascii() or not key.isprintable() or " " in key
    else:
        assert taken == key
        assert key.strip("*")
        assert all("!" <= mark <= "~" for mark in key)


def test_the_key_is_in_nothing_that_the_block_shows():
    for credentials in (
        ExtendCredentials(api_key=KEY, workspace_id="ws_1"),
        ExtendCredentials.model_construct(api_key=KEY),  # holds a plain string
    ):
        assert_hides_the_key(f"{credentials!r} {credentials}")
    credentials = ExtendCredentials(api_key=SecretStr(KEY))
    assert_hides_the_key(credentials.model_dump_json())
    assert_hides_the_key(str(credentials.model_dump()))
    assert_hides_the_key(str(vars(credentials)))


def test_the_block_survives_the_way_to_another_process():
    credentials = pickle.loads(pickle.dumps(ExtendCredentials(api_key=KEY, region="eu")))
    assert credentials.api_key.get_secret_value() == KEY
    assert credentials.api_url == "https://api.eu1.extend.ai"


class AsksPrefect:
    """A double of Prefect's `rate_limit`."""

    def __init__(self, problem=None):
        self.asked = []
        self.problem = problem

    async def __call__(self, name, **options):
        self.asked.append((name, options))
        if self.problem is not None:
            raise ConcurrencySlotAcquisitionError(self.problem)


@pytest.fixture
def without_a_network(monkeypatch):
    """Every request gets a 404, without a network."""
    sent = []

    async def answer(self, request):
        sent.append(request.url.path)
        return httpx.Response(404)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)
    monkeypatch.setattr(credentials_module, "get_client", Prefect)
    return sent


class Prefect:
    """A double of Prefect's client, with one inactive limit."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def read_global_concurrency_limit_by_name(self, name):
        return SimpleNamespace(active=name != "switched-off")


async def test_each_request_takes_one_slot_of_the_shared_limit(monkeypatch, without_a_network):
    prefect = AsksPrefect()
    monkeypatch.setattr(credentials_module, "rate_limit", prefect)
    async with ExtendCredentials(api_key=KEY, rate_limit="extend-acme").get_client() as client:
        with pytest.raises(ExtendNotFoundError):
            await client.get_run("clr_1")
        with pytest.raises(ExtendNotFoundError):
            await client.cancel_run("clr_1")
    assert prefect.asked == [("extend-acme", {"strict": True})] * 2
    assert without_a_network == ["/classify_runs/clr_1", "/classify_runs/clr_1/cancel"]


async def test_an_unusable_shared_limit_sends_nothing_and_says_why(monkeypatch, without_a_network):
    monkeypatch.setattr(credentials_module, "rate_limit", AsksPrefect("must be created before acquiring slots"))
    async with ExtendCredentials(api_key=KEY, rate_limit="extend-acme").get_client() as client:
        with pytest.raises(SharedLimitError) as caught:
            await client.get_run("clr_1")
    said = str(caught.value)
    assert "nothing was sent (must be created before acquiring slots)" in said
    assert "`prefect gcl create extend-acme --limit 10 --slot-decay-per-second 10`" in said
    assert without_a_network == []
    _assert_our_frames_hide_the_key(caught.value)


async def test_a_prefect_that_does_not_respond_is_named_in_the_error(monkeypatch, without_a_network):
    async def silent(*_, **__):
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(credentials_module, "rate_limit", silent)
    async with ExtendCredentials(api_key=KEY, rate_limit="extend-acme").get_client() as client:
        with pytest.raises(SharedLimitError, match=r"so nothing was sent \(ReadTimeout\)"):
            await client.get_run("clr_1")


async def test_a_shared_limit_that_is_switched_off_is_an_error_too(monkeypatch, without_a_network):
    prefect = AsksPrefect()
    monkeypatch.setattr(credentials_module, "rate_limit", prefect)
    async with ExtendCredentials(api_key=KEY, rate_limit="switched-off").get_client() as client:
        for _ in range(2):
            with pytest.raises(SharedLimitError, match=r"so nothing was sent \(it is not active\)"):
                await client.get_run("clr_1")
    assert (prefect.asked, without_a_network) == ([], [])


@pytest.mark.parametrize("blank", [None, "", "  "])
async def test_without_a_shared_limit_prefect_is_not_asked(blank, monkeypatch, without_a_network):
    prefect = AsksPrefect("not to be asked")
    monkeypatch.setattr(credentials_module, "rate_limit", prefect)
    async with ExtendCredentials(api_key=KEY, rate_limit=blank).get_client() as client:
        with pytest.raises(ExtendNotFoundError):
            await client.get_run("clr_1")
    assert prefect.asked == []
    assert len(without_a_network) == 1
