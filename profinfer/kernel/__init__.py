"""What the running kernel is and has: capabilities, tracefs, and what it can count.

Each feature is asked for by itself, never concluded from a version. It reads /proc, /sys and
tracefs, opens nothing that records, and knows no engine and no trace.
"""
