"""An engine from outside: processes, their mapped files, and what stands in these.

It reads strangers' files and memory without executing any of it, and believes no size in them.
`points` says which functions are probed; where a probe may sit in them is found here (`sites`),
where it does sit is decided in probes/. It attaches nothing.
"""
