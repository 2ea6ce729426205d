"""Capture to trace: records become graphs, operators, tokens, experts, counters, page faults.

`converter` reads frames and leads the rest; `timeline` makes slices by the column. Python objects
exist per graph, micro-batch and distinct tensor, never per operator record. Statistics are not
computed here: that is sql/'s.
"""
