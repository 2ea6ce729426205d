"""Perfetto's format: packets by the column, interned strings, tracks, losses, ftrace bundles.

It writes what it is given, whole packets at a time, and knows no engine: graphs and operators
are names and numbers here.
"""
