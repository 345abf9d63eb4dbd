"""Roles of the router's contenders, each with a certificate, topics and rights of its own.

Their topics have the partitions and settings of the router's topics, and receive the same records.
"""

from dataclasses import replace

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.clocks import utc_now
from erasestream.topics.admin.provisioning import apply
from erasestream.topics.admin.provisioning_plan import CreateTopic, GrantRight
from erasestream.topics.catalog.acl import Match, Operation, Resource, Right
from erasestream.topics.catalog.roles import Role
from tests.bench.join_harness import OURS, Contender, JoinHarness


def open_peer(
    harness: JoinHarness, name: str, *, also_reads: tuple[str, ...] = (), kept: str = ""
) -> Contender:
    """Create a role that reads results and writes an output topic, and the second one `kept`."""
    role = Role(name)
    peer = Contender(role, f"{name}.in", f"{name}.out")
    files, catalog = harness.stack.files, harness.stack.catalog()
    CertificateAuthority.load(files.directory / "authority", now=utc_now).issue_role(
        name, files.identities
    )
    topics = {peer.source: OURS.source, peer.target: OURS.target}
    topics |= {kept: OURS.target} if kept else {}
    rights = [
        *(Right(role, Operation.READ, Resource.TOPIC, each) for each in (peer.source, *also_reads)),
        *(Right(role, Operation.WRITE, Resource.TOPIC, each) for each in list(topics)[1:]),
        Right(role, Operation.READ, Resource.GROUP, name),
        Right(role, Operation.WRITE, Resource.TRANSACTIONAL_ID, name, Match.PREFIXED),
    ]
    topic_changes = (
        CreateTopic(replace(catalog[like], name=topic)) for topic, like in topics.items()
    )
    apply(harness.admin, catalog, [*topic_changes, *map(GrantRight, rights)])
    return peer
