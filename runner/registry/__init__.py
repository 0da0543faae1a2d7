"""What exists: registry folders, their YAML, names and aliases, rules per eval, content by hash.

It turns text into values and names into evals; it knows no run. It alone reads registry folders.
"""
