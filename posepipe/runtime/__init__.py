"""Where stages run: streams of items, and runs that end in a document."""
