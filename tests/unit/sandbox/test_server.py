from __future__ import annotations

import socket
import threading

import httpx
import pytest

from prefect_extend_ai.sandbox import World, serve

HEADERS = {"Authorization": "Bearer sk_sandbox", "x-extend-api-version": "2026-02-09"}


def test_a_world_is_served_as_long_as_the_block_runs(still):
    world = still()
    run_id = world.add()
    with serve(world) as running:
        assert running.world is world
        assert httpx.get(f"{running.url}/classify_runs/{run_id}", headers=HEADERS).json()["id"] == run_id
        port = int(running.url.rpartition(":")[2])
    assert not [thread for thread in threading.enumerate() if thread.name == "extend-sandbox"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_date_is_the_worlds_and_there_is_only_one(still):
    with serve(still()) as running:
        answer = httpx.get(f"{running.url}/nowhere")
    assert answer.headers.get_list("Date") == ["Mon, 02 Mar 2026 12:00:00 GMT"]


def test_a_port_that_is_taken_is_an_error_at_once():
    with serve(World()) as running, pytest.raises(OSError, match="in use"), serve(World(), running_port(running.url)):
        pass


def running_port(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.slow
def test_it_stops_while_a_slow_response_is_awaited():
    world = World(troubles=["any:*:slow=60"])
    failed = []

    def ask(url):
        try:
            httpx.get(url, headers=HEADERS, timeout=30)
        except httpx.HTTPError as error:
            failed.append(error)

    with serve(world) as running:
        asker = threading.Thread(target=ask, args=(f"{running.url}/classify_runs",))
        asker.start()
        # The request is there once its trouble has been counted.
        while not world.troubles._matched:
            pass
    asker.join(timeout=10)
    assert not asker.is_alive()
