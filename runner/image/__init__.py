"""The eval images: finding and pulling one, and building ours with or without an image registry.

It alone builds and pulls; for that it runs the host's pip and mmdebstrap.
"""
