"""What one can type: a file each, with its flags, its run and its messages.

A command puts together what the other wings do; nothing imports from here.
"""
