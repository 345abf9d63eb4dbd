"""Probes of a stage's health port."""

import urllib.error
import urllib.request

from tests.flow.pipeline_harness import PipelineHarness


def status(flow: PipelineHarness, stage: str, path: str) -> int:
    """Return the HTTP status that a stage's health port answers with."""
    port = flow.wait_for_event(stage, "starting")["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
