"""Files of labels and results."""

from __future__ import annotations

import json

import pytest
from scored import world


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


@pytest.fixture
def annotations(write):
    return write("annotations.json", world())
