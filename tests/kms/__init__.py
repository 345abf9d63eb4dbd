"""A local Cloud KMS, as test equipment."""
