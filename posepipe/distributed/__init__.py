"""A run on the machines of a Ray cluster; the extra ``posepipe[ray]``."""
