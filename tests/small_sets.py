"""Data sets of two images and two people, and what the check of data says about sets."""

from __future__ import annotations

from builders import image_entry

from posepipe.core.skeleton import COCO_PERSON
from posepipe.training.data import DataSets
from posepipe.training.datacheck import check_data


def size_wh(name, number):
    """Of another width for every set and another height for every image."""
    return 100 + ord(name[0]) - ord("a"), 79 + number


def entry(name, number, **changes):
    width, height = size_wh(name, number)
    given = {"file_name": f"{name}-{number}.png", "width": width, "height": height}
    return image_entry(number, **{**given, **changes})


def lines(train, validate=(), **options):
    learnt = options.get("learnt", "keypoints")
    data = DataSets(COCO_PERSON, keypoints=learnt == "keypoints")
    found = check_data(train, validate, data=data, learnt=learnt)
    for finding in found:
        assert finding.line.startswith("error: " if finding.fatal else "warning: ")
        assert "\n" not in finding.line
    # Without the paths, which differ from run to run.
    return [(f.fatal, f.line.split(f"{f.where}: ", 1)[1]) for f in found]
