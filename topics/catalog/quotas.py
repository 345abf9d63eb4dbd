"""Client quotas of the lanes' roles: one lane's flood must not be every lane's latency.

The brokers slow a client down that exceeds its quota; they refuse nothing.  Quotas belong to a
principal and apply on each broker.  Stages have none: they work for all lanes.

Source: https://kafka.apache.org/documentation/#design_quotas
"""

from collections.abc import Mapping
from dataclasses import dataclass

PRODUCE = "producer_byte_rate"
CONSUME = "consumer_byte_rate"
REQUESTS = "request_percentage"

ACCOUNT_SHARE = 0.25
"""Part of the lane's quota for its role `account`, which sends and takes no images."""


@dataclass(frozen=True, kw_only=True)
class LaneQuota:
    """Most that each role of a lane may use of one broker.

    `request_percent` is time of the broker's threads: 100 is one thread's, and a broker with
    Kafka's defaults has 1100 (8 for requests, 3 for the network).
    """

    produce_bytes_per_s: float = 100e6
    consume_bytes_per_s: float = 200e6
    request_percent: float = 100.0

    def entries(self, share: float = 1.0) -> Mapping[str, float]:
        """Return a part of the quota, by Kafka's names."""
        return {
            PRODUCE: self.produce_bytes_per_s * share,
            CONSUME: self.consume_bytes_per_s * share,
            REQUESTS: self.request_percent * share,
        }
