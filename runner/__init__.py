"""evalset: every eval of an eval set, each in its own Docker container."""

__version__ = "0.1.0"
