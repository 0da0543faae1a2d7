"""The pages of a report: overview, evals, samples, comparisons and the timeline.

It alone writes HTML, through templates that escape everything.
"""
