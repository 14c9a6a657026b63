"""Nothing is reported to the makers of the runtimes."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = {
    "openvino": "import posepipe.networks.runtimes.openvino",
    "nncf": "import posepipe.curation.exporting, nncf, openvino",
    "doctor": "import posepipe.doctor as d; list(d._openvino())",
}
# What the package would be asked to send is counted, and every child process.
PROGRAM = """
import multiprocessing, sys, types
sent = []
multiprocessing.Process.start = lambda self: sent.append(self)
{imports}
import openvino.tools.ovc.telemetry_utils as used
assert used.tm.__name__ == "openvino.tools.ovc.telemetry_stub", used.tm
assert sys.modules["openvino_telemetry"] is None
assert not sent
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", IMPORTS)
def test_openvino_sends_nothing(by: str) -> None:
    pytest.importorskip("openvino")
    if by == "nncf":
        pytest.importorskip("nncf")
    program = PROGRAM.format(imports=IMPORTS[by])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
