"""The commands of `evalset`: one module each, with its click function and what it does.

Here the other rooms meet. This room alone, with cli and oaievalset, may import `click`, and nothing
imports it but these two.
"""
