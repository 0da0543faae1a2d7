"""What evals load from a hub or an address: kept once per eval, locked, and given to runs.

Each eval has a folder of its own, so that no eval can change what another one reads. This room
alone writes the cache of data.
"""
