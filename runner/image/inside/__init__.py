"""The program that asks the `oaieval` of an image what it would refuse.

It runs in any image, a user's own too: on Python 3.9 or later, with the standard library alone.
"""
