"""Results in a browser: a page of all pictures, served on this machine or written as a folder."""
