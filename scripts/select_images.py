"""A COCO annotation file with only those of its images that are marked.

    python scripts/select_images.py ANNOTATIONS.json FIELD OUT.json

Keeps images whose record has a true FIELD, with all their annotations; everything else of the
file stays as it is. Data sets mark what an image is fit for: where `"teacher": true` means that
people without official labels are marked, too, a detector can learn from these images alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def selected(document: dict[str, Any], field: str) -> dict[str, Any]:
    """The document with the images in which `field` is true, and their annotations."""
    images = [image for image in document["images"] if image.get(field)]
    ids = {image["id"] for image in images}
    annotations = [a for a in document["annotations"] if a["image_id"] in ids]
    return {**document, "images": images, "annotations": annotations}


def main(source: str, field: str, target: str) -> None:
    """Write the selection and say how much it is."""
    document = json.loads(Path(source).read_text(encoding="utf-8"))
    chosen = selected(document, field)
    if not chosen["images"]:
        sys.exit(f"{source}: no image has a true {field!r}")
    Path(target).write_text(json.dumps(chosen), encoding="utf-8")
    print(
        f"{target}: {len(chosen['images'])} of {len(document['images'])} images, "
        f"{len(chosen['annotations'])} of {len(document['annotations'])} annotations"
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
