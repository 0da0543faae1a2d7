"""A run from start to end: prepare, schedule, loop, record, recover, and what it is pinned to.

It alone starts attempts and writes records. Whether an attempt runs on this host is not its
business: it asks `Attempts` for one.
"""
