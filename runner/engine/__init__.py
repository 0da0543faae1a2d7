"""Everything that touches a Docker engine: clients, containers, attempts, and how they end.

It alone, with image, may import `docker`; what docker-py lacks is worked around here.
"""
