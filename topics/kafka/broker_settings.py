"""Settings of the brokers, as far as the administrator may see and change them."""

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S, Admin


class BrokerSetting(NamedTuple):
    """Value of a broker's setting; None if it is not shown."""

    value: str | None
    is_read_only: bool


def broker_settings(admin: Admin) -> list[Mapping[str, BrokerSetting]]:
    """Return the settings of each broker, by name.  Raises `NotAuthorized`, `Unavailable`."""
    kind = ConfigResource.Type.BROKER
    resources = [ConfigResource(kind, str(number)) for number in sorted(admin.broker_ids())]
    found: list[Mapping[str, BrokerSetting]] = []
    with admin.use() as client:
        for resource in resources:
            futures = client.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)
            answer = admin.ask(f"settings of broker {resource.name}", futures[resource])
            found.append(
                {
                    name: BrokerSetting(entry.value, bool(entry.is_read_only))
                    for name, entry in answer.items()
                }
            )
    return found


def set_broker_setting(admin: Admin, name: str, value: str) -> None:
    """Set one setting of each broker; librdkafka (2.15) cannot set it for all of them at once."""
    for number in sorted(admin.broker_ids()):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        kind = ConfigResource.Type.BROKER
        resource = ConfigResource(kind, str(number), incremental_configs=[entry])
        with admin.use() as client:
            futures = client.incremental_alter_configs([resource])
            admin.ask(f"set {name} of broker {number}", futures[resource])
