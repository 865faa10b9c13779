"""A network setting that keeps Prefect out of reach is named, as for Extend."""

from __future__ import annotations

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_extend_ai.cli.reach import prefect_api
from prefect_extend_ai.errors import RecordError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HTTPS_PROXY": "socks5://127.0.0.1:1"}, "cannot be reached: HTTPS_PROXY names a SOCKS proxy"),
        ({"NO_PROXY": "fe80::/10"}, "cannot be reached: NO_PROXY cannot be read"),
    ],
)
async def test_a_wrong_setting_is_named_for_prefect_too(settings, said, monkeypatch):
    for name, value in settings.items():
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: "https://prefect.example/api"}), pytest.raises(RecordError, match=said):
        async with prefect_api():
            pytest.fail("it says that it is there")
