"""Settings of topics that the cluster does not let one edit.

Managed services fix some.  Those that the sum of the lifetimes consists of must be at least as
short as declared, or the promise is exceeded; every other one is left as it is and reported.
"""

import time

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import MissingTopic, PromiseExceeded, Unavailable
from erasestream.topics.admin.provisioning_plan import SetConfig
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.topic_admin import (
    Setting,
    SettingRefused,
    TopicDeclaration,
    create_without_refused,
    set_topic_setting,
    topic_settings,
)

TIMES = ("retention.ms", "segment.ms", "file.delete.delay.ms")
KINDS = ("cleanup.policy", "message.timestamp.type")


def set_if_editable(admin: Admin, catalog: Catalog, change: SetConfig) -> SetConfig | None:
    """Set it; return what was refused, with the value that stays.  Raises `PromiseExceeded`."""
    try:
        set_topic_setting(admin, change.topic, change.name, change.declared)
    except SettingRefused:
        return _kept(admin, catalog, change.topic, change.name)
    return None


def create_as_far_as_editable(
    admin: Admin, catalog: Catalog, topic: TopicDeclaration
) -> list[SetConfig]:
    """Create it without the settings that are refused; return these.  Raises `PromiseExceeded`."""
    refused = create_without_refused(admin, topic)
    return [_kept(admin, catalog, topic.name, name) for name in refused]


def _kept(admin: Admin, catalog: Catalog, topic: str, name: str) -> SetConfig:
    settings = retry(
        lambda: _settings(admin, topic), deadline=Deadline(admin.timeout_s, time.monotonic)
    )
    actual = settings[name].value if name in settings else None
    declared = catalog.config(catalog[topic])[name]
    if catalog[topic].lifetime and not _keeps_the_promise(name, actual, declared):
        raise PromiseExceeded(
            f"{topic}: the cluster keeps {name} at {actual}, and it must be {declared}"
        )
    return SetConfig(topic, name, actual, declared)


def _settings(admin: Admin, topic: str) -> dict[str, Setting]:
    """Return them.  Raises `Unavailable` while the broker does not know a new topic yet."""
    try:
        return topic_settings(admin, [topic])[0]
    except MissingTopic as error:
        raise Unavailable(error.detail) from error


def _keeps_the_promise(name: str, actual: str | None, declared: str) -> bool:
    if name in TIMES:
        return actual is not None and 0 <= int(actual) <= int(declared)
    return name not in KINDS or actual == declared
