"""A decision as a consent receipt: ISO/IEC TS 27560:2023, in the profile of W3C's DPV.  Pure.

Source: Consent Records and Receipts as per ISO/IEC TS 27560:2023 using DPV, W3C DPVCG, 2024.
The receipt is a copy of what the ledger has; its proof is the receipt of the transparency log.
"""

import json
from datetime import datetime
from typing import Any

from erasestream.pipeline.gateway.account_page.notice import LANGUAGE, NOTICES
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.reader import HistoryEntry

MEDIA_TYPE = "application/ld+json"
_CONTEXT = {
    "dpv": "https://w3id.org/dpv#",
    "dct": "http://purl.org/dc/terms/",
    "schema": "https://schema.org/",
    "spdx": "http://spdx.org/rdf/terms#",
}
_PROFILE = "https://w3id.org/dpv/schema/dpv-27560"
_METHODS = {
    Channel.ACCOUNT_PAGE: "the switch on the account page",
    Channel.LIBRARY: "the service that the account belongs to",
    Channel.OPERATOR: "an operator of the service",
}


def consent_receipt(
    entry: HistoryEntry,
    *,
    lane: Lane,
    account: AccountId,
    controller: str,
    page: str,
    created: datetime,
) -> bytes:
    """Return the receipt as JSON-LD.  `page` is the address of the account page."""
    receipt = {
        "@context": _CONTEXT,
        "@id": f"urn:erasestream:receipt:{entry.id}",
        "@type": "dpv:ConsentReceipt",
        "dct:identifier": f"receipt-{entry.id}",
        "dct:conformsTo": f"{_PROFILE}#receipt",
        "dct:created": _text(created),
        "dct:publisher": controller,
        "schema:recipient": "dpv:DataSubject",
        "dpv:hasRecordOfActivity": _record(entry, lane, account, controller, page),
    }
    return json.dumps(receipt, indent=2, ensure_ascii=False).encode() + b"\n"


def _record(
    entry: HistoryEntry, lane: Lane, account: AccountId, controller: str, page: str
) -> dict[str, Any]:
    record = {
        "@id": f"urn:uuid:{entry.id}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": entry.id,
        "dct:conformsTo": f"{_PROFILE}#record",
        "dpv:hasDataSubject": {"@type": "dpv:Customer", "dct:identifier": f"{lane}/{account}"},
        "dpv:hasDataController": controller,
        "dpv:hasProcess": _process(controller),
        "dpv:hasConsentControl": {
            "@type": ["dpv:ProvideConsent", "dpv:WithdrawConsent"],
            "dpv:isExercisedAt": page,
            "dct:description": "Switch AI training data off at the top of the account page.",
        },
        "dpv:hasConsentStatus": {
            "@type": _status(entry),
            "dpv:isIndicatedBy": _indicated_by(entry),
            "dpv:hasIndicationMethod": _METHODS[entry.channel],
            "dpv:isIndicatedAtTime": _text(entry.at),
        },
    }
    notice = _notice(entry)
    return record if notice is None else {**record, "dpv:hasNotice": notice}


def _process(controller: str) -> dict[str, Any]:
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@type": "dpv:ResearchAndDevelopment",
            "dct:description": "Training and testing of models for removing backgrounds.",
        },
        "dpv:hasPersonalData": "Uploaded photos and their cut-outs",
        "dpv:hasProcessing": ["dpv:Store", "dpv:Use", "dpv:Erase"],
        "dpv:hasRecipient": [controller],
        "dpv:hasStorageCondition": {
            "@type": "dpv:StorageDuration",
            "dpv:hasDuration": {
                "@type": "dpv:UntilEventDuration",
                "dct:description": "until the owner switches AI training data off",
            },
        },
        "dpv:hasTechnicalMeasure": ["dpv:EncryptionAtRest", "dpv:EncryptionInTransfer"],
    }


def _notice(entry: HistoryEntry) -> dict[str, Any] | None:
    """Return the text agreed to; by its digest alone if it is not one of this version's."""
    if entry.notice is None:
        return None
    version, _, sha256 = entry.notice.partition("/")
    notice: dict[str, Any] = {
        "@type": "dpv:ConsentNotice",
        "dct:identifier": version,
        "dct:language": LANGUAGE,
        "spdx:checksum": {
            "@type": "spdx:Checksum",
            "spdx:algorithm": "spdx:checksumAlgorithm_sha256",
            "spdx:checksumValue": sha256,
        },
    }
    known = NOTICES.get(entry.notice)
    return notice if known is None else {**notice, "schema:text": known.text}


def _status(entry: HistoryEntry) -> list[str]:
    if entry.decision is Decision.GRANTED:
        return ["dpv:ConsentGiven", "dpv:ExplicitlyExpressedConsent"]
    by_operator = entry.channel is Channel.OPERATOR
    return ["dpv:ConsentRevoked" if by_operator else "dpv:ConsentWithdrawn"]


def _indicated_by(entry: HistoryEntry) -> str:
    return "dpv:DataController" if entry.channel is Channel.OPERATOR else "dpv:DataSubject"


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
