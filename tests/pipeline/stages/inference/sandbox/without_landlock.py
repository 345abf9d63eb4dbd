"""The real zygote, on a kernel without Landlock."""

import sys

from tests.pipeline.stages.inference.sandbox.old_kernel import (
    LANDLOCK_CREATE_RULESET,
    serve_without,
)

if __name__ == "__main__":
    sys.exit(serve_without(LANDLOCK_CREATE_RULESET))
