"""The Perfetto UI: one trace in it, opened on what one looks for first.

Serves on loopback, or hands the trace to the UI that Perfetto's makers keep online. Every name in
a trace is untrusted text: none gets into an address.
"""
