"""The scheduler's records made into a trace: who ran where, who waited in what, who took a CPU.

Switches become Perfetto's own tables by way of trace/ftrace.py; what is missing between two
switches is said and never guessed. It knows threads, not graphs.
"""
