"""The contract with bpf/: what a record is, and the frames of a capture that hold records.

It restates bpf/records.h and bpf/capture_format.h (tests/records compares them) and takes records
apart by the column. It knows no kernel, no engine and no trace; `limits` does without numpy.
"""
