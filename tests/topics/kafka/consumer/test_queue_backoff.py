"""A consumer whose queue was full fetches again at once, and not after librdkafka's second."""

from tests.paths import ROOT

BACKOFF = ("fetch_queue_backoff_ms", "member_settings(")


def test_whatever_bounds_its_queue_sets_the_pause_after_it_was_full() -> None:
    bounded = {
        path: text
        for path in (ROOT / "topics").rglob("*.py")
        if "queued_max_messages_kbytes" in (text := path.read_text())
    }
    assert len(bounded) >= 5
    assert [path for path, text in bounded.items() if not any(map(text.count, BACKOFF))] == []
