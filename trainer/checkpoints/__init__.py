"""Checkpoints: everything a run needs to go on as if it had not been stopped.

checkpoint.py  a whole checkpoint: found, verified, loaded, restored     writer.py     saving, beside training
manifest.py    state.json: what is where, and its checksums              snapshot.py   copies in host memory
pieces.py      the rows of a tensor that one process holds               ranks.py      what processes leave one another
reading.py     tensors out of files, only the rows needed                retention.py  what is kept, what is removed
disk.py        bytes that survive a power cut                            space.py      whether there is room
"""
