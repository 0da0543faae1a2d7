"""Docker hosts that a run uses besides its own: an agent on each, and the links to them.

May import everything below `run`; the agent on a host is this package, too.
"""
