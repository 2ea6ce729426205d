"""Requests told apart: from what was computed, in order of time, and what the engine called.

Pure state: it is told portions of tokens and calls, and says which request each belongs to and how
sure that is. It writes nothing and knows no trace. docs/requests.md has the definitions.
"""
