"""Having a process recorded: profinfer-recorder is asked, launched commands are let go.

What touches the kernel is the recorder's work (bpf/recorder/); here it is told what to do, and what
it tells is shown. The result is a capture. It knows nothing of traces made of it.
"""
