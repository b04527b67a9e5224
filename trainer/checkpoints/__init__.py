"""Checkpoints: everything a run needs to go on as if it had not been stopped.

checkpoint.py         a whole checkpoint: found, verified, loaded, restored     writer.py     saving, beside training
manifest.py           state.json and the manifests of ranks: files, checksums   snapshot.py   copies in host memory
pieces.py             the rows of a tensor that one process holds               retention.py  what is kept; its room
safetensors_files.py  headers of safetensors files, and their seals
"""
