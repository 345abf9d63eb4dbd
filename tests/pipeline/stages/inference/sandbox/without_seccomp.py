"""The real zygote, on a kernel without seccomp."""

import sys

from tests.pipeline.stages.inference.sandbox.old_kernel import SECCOMP, serve_without

if __name__ == "__main__":
    sys.exit(serve_without(SECCOMP))
