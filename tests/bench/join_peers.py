"""Roles of those that the router is compared with: certificate, topics and rights of their own.

Their topics have the partitions, settings and records of the router's own.
"""

from dataclasses import replace

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.stack_files import now
from erasestream.topics.admin.provisioning import apply
from erasestream.topics.admin.provisioning_plan import CreateTopic, GrantRight
from erasestream.topics.catalog.acl import Match, Operation, Resource, Right
from erasestream.topics.catalog.roles import Role
from tests.bench.join_harness import OURS, Contender, JoinHarness


def open_peer(
    bed: JoinHarness, name: str, *, also_reads: tuple[str, ...] = (), kept: str = ""
) -> Contender:
    """A role that reads its own results and writes its own output; `kept` is a second one."""
    role = Role(name)
    peer = Contender(role, f"{name}.in", f"{name}.out")
    files, catalog = bed.stack.files, bed.stack.catalog()
    CertificateAuthority.load(files.directory / "authority", now=now).issue_role(
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
    made = (CreateTopic(replace(catalog[like], name=topic)) for topic, like in topics.items())
    apply(bed.admin, catalog, [*made, *map(GrantRight, rights)])
    return peer
