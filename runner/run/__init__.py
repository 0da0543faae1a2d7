"""A run from start to end: prepare, schedule, loop, record, recover, and what it is pinned to.

It alone starts attempts and writes records. `Hosts` and `Schedule` stand for where they run: this
host, or those of --hosts.
"""
