"""One contract of Cloud Storage's JSON API: for the local bucket, other emulators, the real one."""
