"""Results in a browser: a page of all images, served on this machine or written as a folder."""
