"""The notebook of examples/ runs, cell by cell, as it stands.

Without a kernel, which would bring in Jupyter: its cells are plain Python.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "first-steps.ipynb"


@pytest.mark.skipif(not find_spec("pandas"), reason="needs pandas: pip install .[dev]")
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    assert names["poses"].keypoints.shape == (1, 17, 3)
    assert names["drawn"].shape == (600, 512, 3)
    assert len(names["table"]) == 3 * 17
    assert any(len(frame.poses) for frame in names["frames"])


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
