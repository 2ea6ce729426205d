"""What an engine says of itself: offsets in its structs, names of its operators and types.

A confined throw-away process (bpf/confine/) loads the engine's own libraries and tries
(bpf/describe/); here it is started and limited, what it says is distrusted, checked and kept by
build id, and turned into the integers that the handlers are loaded with. Only this wing has
strangers' code executed.
"""
