"""What runs the networks: torch, or a library that runs them exported."""

import sys

# OpenVINO and NNCF report imports and conversions to a server, from a child process, unless this
# package of theirs cannot be imported. Nothing leaves the machine that nobody asked for.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as import does it
