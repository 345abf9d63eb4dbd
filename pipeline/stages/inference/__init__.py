"""The inference stage: an upload in, a cut-out or a failed result out.

onnxruntime reports its use to its vendor over HTTPS unless this variable is set when it is
imported; every module here that imports it is imported after this.  It would also store a device
identifier in the home directory, and start threads, which the sandbox could not restrict.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
