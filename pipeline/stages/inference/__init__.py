"""The inference stage: an upload in, a cut-out or a failed result out.

onnxruntime reports its use to its maker over HTTPS unless this variable stands when it is
imported, and everything here that imports it is imported after this.  It would also keep a
device identifier in the home directory and start threads, which no sandbox would bind.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
