"""An engine from outside: processes, their mapped files, and what these say of an engine.

It reads strangers' memory without executing any of it, and believes no size in it. `points` says
which functions are probed; where a probe may sit in them binaries/ finds, where it does sit is
decided in probes/. It attaches nothing.
"""
