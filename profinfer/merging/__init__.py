"""Traces joined into one: clocks aligned, numbers kept apart, what both have counted once.

It streams packets by whomever made them, by the column, and takes nothing for granted of
recordings but what they say of themselves.
"""
