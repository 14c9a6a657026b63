"""The networks of papers, to be trained: a file a paper, a table a network. Data, never code."""
