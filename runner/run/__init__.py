"""A run from start to end: prepare, schedule, loop, record, recover, and what it is pinned to.

It alone starts attempts and writes records. It need not know whether an attempt runs on this host,
because it asks `Attempts` for one.
"""
