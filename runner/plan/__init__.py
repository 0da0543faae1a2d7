"""What to run: the grammar of the command line, the plan, selections, cut-offs and pins.

It only decides: it touches neither disk nor clock nor engine, and gets what it needs of them as
arguments.
"""
