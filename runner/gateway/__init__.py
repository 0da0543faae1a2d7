"""The process that hands requests on to providers, and never pays for an answer twice."""
