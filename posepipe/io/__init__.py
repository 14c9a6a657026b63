"""Files to nouns and nouns to files: images, COCO annotations, boxes.json and kps.json."""
