"""What stands in an ELF file: symbols, segments, code, texts, and functions that bear no name.

It reads strangers' files without executing any of it, and believes no size in them. Which functions
matter, and which file of a process has them, is told by engine/.
"""
