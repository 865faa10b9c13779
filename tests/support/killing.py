"""Which step of a sweep a request is, and a sweep that is killed at one."""

from __future__ import annotations

NOTES = "extend-write-ahead-classify"


def step_of(request):
    """Which step of a sweep a request is; None for one that is none."""
    if request.path.startswith("/classify_runs"):
        if request.method == "POST":
            return "create" if request.path == "/classify_runs" else "cancel"
        return "check" if request.path.startswith("/classify_runs/") else "list"
    if request.method == "DELETE":
        return "delete"
    if request.method == "POST" and request.path == "/artifacts/":
        key, kind = request.json.get("key"), request.json.get("type")
        if key is None:
            return "record"
        if key != NOTES:
            return "report"
        if kind != "json":
            return "close"
        return "claim" if b'"sending"' in request.body else "note"
    return None


async def killed(start, extend, prefect, killed_at):
    """A sweep that is killed at a step: `start` starts it behind these two proxies, which let all through afterwards.

    Args:
        start: starts the sweep.
        extend: the proxy before Extend.
        prefect: the proxy before Prefect.
        killed_at: the step, which of its requests, and `before` or `after` that takes effect.
    """
    step, number, when = killed_at
    seen = []

    def is_dead():
        return sweep.process.returncode is not None

    def die_here(request):
        if step_of(request) == step:
            seen.append(request)
            if len(seen) == number:
                sweep.kill()
        return 503 if is_dead() else None

    # What the dead have sent and no proxy has read yet never comes; what is past the proxy takes effect.
    extend.before = prefect.before = lambda _: 503 if is_dead() else None
    setattr(extend, when, die_here)
    setattr(prefect, when, die_here)
    sweep = start()
    assert sweep.wait() == -9, sweep.said
    await extend.quiet()
    extend.before = extend.after = lambda _: None
