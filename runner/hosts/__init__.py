"""Docker hosts that a run uses besides its own: an agent on each, and the links to them.

It alone runs ssh. It may import everything below `run`; the agent on a host is this package, too.
"""
