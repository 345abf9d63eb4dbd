"""Public API for services that send images or receive results; complete in the base install."""

from erasestream.schemas.errors import (
    CertificateRefused,
    ClientClosed,
    Code,
    ErasestreamError,
    Fenced,
    InvalidEvent,
    InvalidImage,
    InvalidInput,
    InvariantBroken,
    MissingCertificate,
    MissingTopic,
    NotAuthenticated,
    NotAuthorized,
    Refused,
    Unavailable,
    UsedAfterFork,
)
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted, Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import (
    Channels,
    CutoutOptions,
    Edges,
    Margins,
    OutputFormat,
    OwnAlpha,
    Size,
)
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.image_source import ImageSource
from erasestream.topics.client.result_reader import ReceivingLimits
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.sent_upload import Receipt
from erasestream.topics.client.upload_builder import Options
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.sasl import Authentication
from erasestream.topics.kafka.tls import MinimumTls

__all__ = [
    "UploadProducer",
    "AsyncUploadProducer",
    "Receipt",
    "SendingLimits",
    "ImageSource",
    "Options",
    "CutoutOptions",
    "OutputFormat",
    "Channels",
    "Size",
    "Edges",
    "OwnAlpha",
    "Margins",
    "ResultSubscription",
    "AsyncResultSubscription",
    "ReceivingLimits",
    "Delivery",
    "Cutout",
    "Failure",
    "Expired",
    "Adjusted",
    "Foreground",
    "Position",
    "Cluster",
    "Authentication",
    "MinimumTls",
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
    "MissingCertificate",
    "CertificateRefused",
    "NotAuthenticated",
    "NotAuthorized",
    "MissingTopic",
    "UsedAfterFork",
    "ClientClosed",
]
