"""What a work pool whose flow runs are containers asks of a deployment."""

from __future__ import annotations

import pytest

from prefect_extend_ai.cli.pools import image_notes, is_loopback

AWAY = {"api_url": "https://api.extend.ai", "prefect_url": "https://prefect.example.com/api"}
HERE = {"api_url": "http://127.0.0.1:8765", "prefect_url": "http://ada:s3cret@localhost:4200/api"}


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:4200/api", True),
        ("http://127.0.0.1:8765", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:4200/api", True),
        ("http://0.0.0.0:4200/api", True),
        ("http://extend.localhost", True),
        ("https://api.extend.ai", False),
        ("http://host.docker.internal:4200/api", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_a_loopback_address_is_told_from_others(url, loopback):
    assert is_loopback(url) is loopback


def test_a_process_pool_has_nothing_to_say():
    assert image_notes("process", {}, **HERE) == []


@pytest.mark.parametrize("pool", ["docker", "kubernetes", "ecs:push", "mine"])
def test_any_other_pool_is_told_what_its_image_must_hold(pool):
    [note] = image_notes(pool, {}, **AWAY)
    assert "must hold prefect-extend-ai" in note
    assert "--image" in note
    [named] = image_notes(pool, {"image": "registry.example.com/sweeps:1"}, **AWAY)
    assert named.startswith("the image registry.example.com/sweeps:1 must hold prefect-extend-ai")


def test_loopback_addresses_are_warned_of_without_passwords():
    _, block, prefect = image_notes("docker", {"image": "sweeps"}, **HERE)
    assert block.startswith(
        "the block's address is http://127.0.0.1:8765, which in a container is the container itself"
    )
    assert prefect.startswith("PREFECT_API_URL is http://localhost:4200/api, which")
    assert "s3cret" not in block + prefect


def test_prefect_s_address_by_job_variable_is_what_counts():
    reachable = {"image": "sweeps", "env": {"PREFECT_API_URL": "http://prefect:4200/api"}}
    assert len(image_notes("docker", reachable, **HERE)) == 2
    assert len(image_notes("docker", {"image": "sweeps", "env": {"PREFECT_API_URL": "http://[::1]/api"}}, **HERE)) == 3
