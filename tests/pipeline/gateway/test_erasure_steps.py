"""The steps of an erasure, in words."""

from datetime import UTC, datetime

from erasestream.pipeline.gateway.account_page.erasure_steps import steps_of
from erasestream.schemas.ids import GrantId
from erasestream.topics.consent.account_erasures import ErasureState

NOW = datetime(2026, 11, 30, 17, tzinfo=UTC)


def test_nothing_is_reported_as_gone_before_it_is() -> None:
    """The first step that is not done tells how far it is."""
    state = ErasureState(GrantId("grant"), NOW)
    means = [each.means for each in steps_of(state)]
    assert [each.is_done for each in steps_of(state)] == [True, False, False, False]
    assert not any("gone" in each for each in means)
    deleting = state._replace(confirmed=NOW, keys_deleted=NOW, objects=10, objects_left=4)
    *done, last = steps_of(deleting)
    assert all(each.is_done for each in done)
    assert (last.means, last.detail) == ("Last, the encrypted images are deleted, too.", "6 of 10")
    assert steps_of(deleting._replace(objects_left=0))[-1].detail == "checking once more"
    assert "gone" in steps_of(deleting._replace(gone=NOW, objects_left=0))[-1].means
