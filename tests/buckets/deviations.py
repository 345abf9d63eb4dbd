"""Known deviations of servers from Cloud Storage: the tests of the contract that show them.

Such a test must fail on that server: one that passes is no deviation any more, and fails the run.
Found with the versions in `tools.py`.  No test shows any of the local bucket: its own are decisions
that `docs/cloud-storage.md` names.
"""

from tests.buckets.servers import FAKE, PYTHON

DEVIATIONS: dict[str, dict[str, str]] = {
    FAKE: {
        "test_a_body_without_its_end_creates_nothing": "answers 500, as to a fault of its own",
        "test_a_read_requires_the_given_generation": "ignores the precondition of a read",
        "test_an_object_is_deleted_at_its_generation_only": "ignores that of deleting",
        "test_a_missing_object_differs_from_a_missing_bucket": "answers 404 to both, with one text",
        "test_a_batch_deletes_its_objects": "skips the client's parts, which have no ids",
        "test_each_part_of_a_batch_succeeds_or_fails_alone": "skips the client's parts",
        "test_a_missing_object_is_deleted_already": "answers 404 with the text of a missing bucket",
        "test_a_batch_of_an_anonymous_caller_is_refused": "knows no identities",
        "test_the_bucket_is_private_and_forgets": "has no IAM policy",
        "test_a_bucket_reports_all_by_which_it_keeps": "drops soft delete and retention policy",
        "test_the_policy_has_members_and_roles": "has no IAM policy",
        "test_an_anonymous_caller_is_refused": "knows no identities",
        "test_a_bucket_with_uniform_access_has_no_acls": "takes ACLs",
    },
    PYTHON: {
        "test_names_have_no_special_meaning[../../escape]": "breaks off at a path that goes up",
        "test_names_have_no_special_meaning[a/../b]": "breaks off at a path that goes up",
        "test_names_have_no_special_meaning[..]": "breaks off at a path that goes up",
        "test_a_body_without_its_end_creates_nothing": "creates the object",
        "test_an_object_is_created_once": "ignores the precondition",
        "test_an_object_is_replaced_at_its_generation_only": "ignores the precondition",
        "test_exactly_one_of_many_concurrent_creators_succeeds": "lets 16 of 16 creators succeed",
        "test_a_read_requires_the_given_generation": "ignores the precondition of a read",
        "test_an_object_is_deleted_at_its_generation_only": "ignores that of deleting",
        "test_a_range_of_an_object_is_read": "answers a range beyond the object",
        "test_a_missing_object_differs_from_a_missing_bucket": "answers 404 to both, with one text",
        "test_a_listing_has_pages_in_order": "has one page only",
        "test_each_part_of_a_batch_succeeds_or_fails_alone": "ignores the precondition",
        "test_our_batch_deletes_its_objects": "answers without the ids of the parts",
        "test_a_missing_object_is_deleted_already": "answers without the ids of the parts",
        "test_a_batch_of_an_anonymous_caller_is_refused": "knows no identities",
        "test_the_bucket_is_private_and_forgets": "drops the configuration of a private bucket",
        "test_a_bucket_reports_all_by_which_it_keeps": "drops that of a bucket that keeps",
        "test_the_policy_has_members_and_roles": "has an empty IAM policy",
        "test_an_anonymous_caller_is_refused": "knows no identities",
        "test_a_bucket_with_uniform_access_has_no_acls": "takes ACLs",
    },
}
"""By server, then by test: all its cases, or one."""
