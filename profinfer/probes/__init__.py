"""The plan: which handler at which offset of which file, and plan.json for the recorder.

Pure data, made of what engine/ and describing/ have found and of what a hit costs. It attaches
nothing; what it asks the recorder to measure it is given a function for, or a process of its own.
"""
