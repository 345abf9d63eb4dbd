"""Background removal on Kafka that can prove what it does with a customer's pixels.

Public API for services that send images or receive results; complete in the base install.
"""

from erasestream.schemas.errors import (
    Code,
    ErasestreamError,
    Fenced,
    InvalidEvent,
    InvalidImage,
    InvalidInput,
    InvariantBroken,
    Refused,
    Unavailable,
)
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions, OutputFormat
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import AsyncUploadProducer, Receipt, UploadProducer
from erasestream.topics.kafka.connection import Cluster

__all__ = [
    "UploadProducer",
    "AsyncUploadProducer",
    "Receipt",
    "CutoutOptions",
    "OutputFormat",
    "ResultSubscription",
    "AsyncResultSubscription",
    "Delivery",
    "Cutout",
    "Failure",
    "Cluster",
    "Lane",
    "AccountId",
    "UploadId",
    "Code",
    "ErasestreamError",
    "InvalidInput",
    "InvalidImage",
    "InvalidEvent",
    "Unavailable",
    "Fenced",
    "InvariantBroken",
    "Refused",
]
