"""The sign that a sweep is alive, shared by all who work for it."""

from __future__ import annotations

from uuid import uuid4

from prefect_extend_ai.prefect_io.liveness import sweep_host, sweep_is_alive, sweep_lock


def test_a_sweep_is_alive_until_the_last_of_its_tasks_has_ended():
    sweep = uuid4()
    first, second = sweep_lock(sweep), sweep_lock(sweep)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sweep_is_alive(sweep)
    second.__exit__(None, None, None)
    assert not sweep_is_alive(sweep)


def test_a_lock_of_one_sweep_is_not_anothers():
    with sweep_lock(uuid4()):
        assert not sweep_is_alive(uuid4())
        assert not sweep_is_alive(None)


def test_folders_of_one_path_on_two_machines_are_two_places(tmp_path, monkeypatch):
    def place(name):
        # As two containers see it: one path, and what is in it differs.
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        (tmp_path / "tmp").symlink_to(tmp_path / name)
        sweep_host.cache_clear()
        try:
            return sweep_host()
        finally:
            (tmp_path / "tmp").unlink()

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    assert place("one") == place("one")
    assert place("one") != place("other")
    sweep_host.cache_clear()
