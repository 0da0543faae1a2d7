"""Between containers and providers: it holds the keys, and pays for nothing twice.

It is a process of its own, and alone may import `aiohttp` and `uvloop`.
"""
