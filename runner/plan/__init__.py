"""What to run: the grammar of the command line, the plan, selections, cut-offs and pins.

It decides and does nothing else: it touches neither disk nor clock nor engine, and whatever it
needs of them is passed in.
"""
