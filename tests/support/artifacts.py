"""What is kept in a Prefect, read over its API."""

from __future__ import annotations

import json
import re

import httpx

FENCED = re.compile(r"^(`{3,})json\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)


class Artifacts:
    """What is kept in a Prefect."""

    def __init__(self, api_url):
        self.api_url = api_url

    def all(self, **filters):
        found = []
        with httpx.Client(base_url=self.api_url, timeout=60) as http:
            while True:
                asked = {"artifacts": filters, "limit": 200, "offset": len(found), "sort": "ID_DESC"}
                page = http.post("/artifacts/filter", json=asked).raise_for_status().json()
                found += page
                if len(page) < 200:
                    return found

    def records(self):
        """Every final object that is recorded, once per record, by its id."""
        found = {}
        for artifact in self.all(key={"exists_": False}, type={"any_": ["markdown"]}):
            for _, text in FENCED.findall(artifact["data"] or ""):
                run = json.loads(text)
                found.setdefault(run["id"], []).append(run)
        return found

    def holds_each_once(self, world):
        """Whether every run that was cancelled was so once, and is recorded once, as Extend gives it."""
        records = self.records()
        cancelled = [run_id for run_id in world.runs if world.get(run_id).status == "CANCELLED"]
        assert {run_id: records.get(run_id) for run_id in cancelled} == {
            run_id: [world.full(run_id)] for run_id in cancelled
        }
        return all(world.cancels(run_id) == 1 for run_id in cancelled)

    def one(self, artifact_id):
        (found,) = self.all(id={"any_": [artifact_id]})
        return found

    def holding(self, run_id):
        """The artifacts whose metadata say that they hold this run."""
        keyless = self.all(key={"exists_": False}, type={"any_": ["markdown"]})
        return [
            each
            for each in keyless
            if run_id in (each["metadata_"] or {}).values() and "extend_run_0" in each["metadata_"]
        ]

    def keyed(self, key, **filters):
        return self.all(key={"any_": [key]}, **filters)

    def open_intents(self, api_url, key="extend-write-ahead-classify"):
        """Run ids of each pending intent of the sweeps of this Extend."""
        notes = [artifact["data"] for artifact in self.keyed(key, type={"any_": ["json"]})]
        return [note["run_ids"] for note in notes if note["scope"]["api_url"] == api_url]
