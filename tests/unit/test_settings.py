"""The environment names the account, and a mistake in it is named in return."""

from __future__ import annotations

import traceback

import pytest

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.settings import ExtendSettings

KEY = "sk_do-not-show-4711"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for field in ExtendSettings.model_fields:
        monkeypatch.delenv(f"EXTEND_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_variable_is_read(monkeypatch):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    monkeypatch.setenv("EXTEND_WORKSPACE_ID", "ws_1")
    monkeypatch.setenv("EXTEND_REGION", "eu")
    monkeypatch.setenv("EXTEND_BASE_URL", "http://127.0.0.1:8765/")
    monkeypatch.setenv("EXTEND_API_VERSION", "2027-01-01")
    monkeypatch.setenv("EXTEND_REQUESTS_PER_SECOND", "2.5")
    monkeypatch.setenv("EXTEND_RATE_LIMIT", "extend-acme")
    credentials = ExtendSettings().credentials()
    assert credentials.api_key.get_secret_value() == KEY
    assert credentials.model_dump(exclude={"api_key", "block_type_slug"}) == {
        "workspace_id": "ws_1",
        "region": "eu",
        "base_url": "http://127.0.0.1:8765",
        "api_version": "2027-01-01",
        "requests_per_second": 2.5,
        "rate_limit": "extend-acme",
    }


def test_a_key_is_all_it_takes(monkeypatch):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    assert ExtendSettings().credentials().api_url == "https://api.extend.ai"


def test_a_dotenv_file_is_read_and_the_environment_wins_over_it(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(f"EXTEND_API_KEY={KEY}\nEXTEND_REGION=us2\nEXTEND_WEBHOOK_SECRET=wss_1\nOTHER=1\n")
    monkeypatch.setenv("EXTEND_REGION", "eu")
    credentials = ExtendSettings().credentials()
    assert credentials.api_key.get_secret_value() == KEY
    assert credentials.region == "eu"


def test_an_empty_value_counts_as_unset(monkeypatch):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    for name in ("WORKSPACE_ID", "REGION", "BASE_URL", "API_VERSION", "REQUESTS_PER_SECOND", "RATE_LIMIT"):
        monkeypatch.setenv(f"EXTEND_{name}", "")
    credentials = ExtendSettings().credentials()
    assert (credentials.workspace_id, credentials.region, credentials.requests_per_second) == (None, "us", 10)


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_says_which_variable_to_set(key, monkeypatch):
    if key is not None:
        monkeypatch.setenv("EXTEND_API_KEY", key)
    with pytest.raises(ExtendInputError, match=r"no API key: set EXTEND_API_KEY in the environment or in \.env"):
        ExtendSettings().credentials()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("EXTEND_API_KEY", f"{KEY} x", "EXTEND_API_KEY: the API key contains a space"),
        ("EXTEND_REGION", "mars", "EXTEND_REGION: Input should be 'us', 'us2' or 'eu'"),
        ("EXTEND_BASE_URL", "http://far.example", "EXTEND_BASE_URL: the base URL must begin with https://"),
        ("EXTEND_WORKSPACE_ID", "ws 1", "EXTEND_WORKSPACE_ID: contains a space"),
        ("EXTEND_REQUESTS_PER_SECOND", "many", "EXTEND_REQUESTS_PER_SECOND: Input should be a valid number"),
        ("EXTEND_REQUESTS_PER_SECOND", "0", "EXTEND_REQUESTS_PER_SECOND: Input should be greater than 0"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable_and_not_shown(variable, value, reason, monkeypatch):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ExtendInputError) as caught:
        ExtendSettings().credentials()
    assert str(caught.value).startswith(reason)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert not [frame for frame in shown if "prefect_extend_ai" in frame.filename and KEY in f"{frame.locals}"]


def test_a_key_passed_directly_is_not_shown_either():
    with pytest.raises(ExtendInputError) as caught:
        ExtendSettings(api_key=KEY, requests_per_second="many")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert KEY not in "".join(shown)


def test_a_dotenv_file_that_is_not_text_says_so(tmp_path):
    (tmp_path / ".env").write_bytes(f"EXTEND_API_KEY={KEY}\xff".encode("latin-1"))
    with pytest.raises(ExtendInputError, match=r"\.env cannot be read \(UnicodeDecodeError\)") as caught:
        ExtendSettings()
    assert KEY not in "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())


def test_the_key_is_in_nothing_that_the_settings_show(monkeypatch):
    monkeypatch.setenv("EXTEND_API_KEY", KEY)
    settings = ExtendSettings()
    assert KEY not in f"{settings!r} {settings} {settings.model_dump_json()}"
