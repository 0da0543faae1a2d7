"""The files of a run, and `RunState`, the one way to know where a run stands.

It alone knows where these files are and how they are read, written, merged and locked.
"""
