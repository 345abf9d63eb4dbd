"""The vectors, opened by a decoder in another language, and HPKE by a published vector."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from erasestream.schemas.sealing.recipients import HPKE_SUITE
from tests.paths import ROOT

VECTORS = json.loads((ROOT / "schemas/sealing/vectors/esv2.json").read_text())
CAPSULES = json.loads((ROOT / "schemas/sealing/vectors/esc1.json").read_text())
DECODER = Path(__file__).with_name("decoder.mjs")

HPKE = {
    "private_key": "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "enc": "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
    "aad": "436f756e742d30",
    "ciphertext": "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980"
    "a41de125a925cdad859d5b7a",
    "key": "f50b0609186798729ed0564b36ef2ef8044f1f9d05636874d1f46c819c7a669f",
    "base_nonce": "151d9929e2449747889bc923",
    "plaintext": "4265617574792069732074727574682c20747275746820626561757479",
}
"""RFC 9180's authors publish it (github.com/cfrg/draft-irtf-cfrg-hpke, test-vectors.json): base
mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, the first encryption."""


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Run the decoder."""
    done = subprocess.run(
        ["node", str(DECODER)],
        input=json.dumps(VECTORS | {"hpke": HPKE, "capsules": CAPSULES}).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_opens_what_opens(answers: dict[str, Any]) -> None:
    expected = [
        {"content_type": each["content_type"], "plaintext": each["plaintext"]}
        for each in VECTORS["opens"]
    ]
    assert answers["opens"] == expected
    names = ("photo_key", "cutout_key")
    capsules = [{name: each[name] for name in names} for each in CAPSULES["opens"]]
    assert answers["capsules"]["opens"] == capsules


def test_it_refuses_what_fails(answers: dict[str, Any]) -> None:
    both = ((VECTORS, answers), (CAPSULES, answers["capsules"]))
    opened = [
        vector["why"]
        for vectors, each in both
        for vector, answer in zip(vectors["fails"], each["fails"], strict=True)
        if answer is not None
    ]
    assert not opened


def test_its_hpke_is_the_published_one(answers: dict[str, Any]) -> None:
    assert answers["hpke"] == HPKE["plaintext"]


def test_our_hpke_is_the_published_one() -> None:
    """The library takes no AAD: the published key and nonce encrypt again without one."""
    values = {name: bytes.fromhex(value) for name, value in HPKE.items()}
    cipher = AESGCM(values["key"])
    published = cipher.encrypt(values["base_nonce"], values["plaintext"], values["aad"])
    assert published == values["ciphertext"]
    without = cipher.encrypt(values["base_nonce"], values["plaintext"], None)
    private = X25519PrivateKey.from_private_bytes(values["private_key"])
    opened = HPKE_SUITE.decrypt(values["enc"] + without, private, values["info"])
    assert opened == values["plaintext"]
