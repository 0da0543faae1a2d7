"""The eval images: finding and pulling one, and building ours with or without an image registry.

It alone builds and pulls, and it runs the host's pip and mmdebstrap for that.
"""
