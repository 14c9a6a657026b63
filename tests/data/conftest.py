"""Makes `tests/builders.py` importable, until setup.cfg says ``pythonpath = tests``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
