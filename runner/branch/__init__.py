"""The progress branch: Git repositories and remotes, snapshots, and resuming from one.

It alone runs Git and may import `git`.
"""
