"""Files to nouns and nouns to files: pictures, COCO annotations, boxes.json and kps.json."""
