"""Labels made by id, joined to image tars that were downloaded later.

In: a label directory whose keys are ids, and image tars or sidecars that say which id each sample has. Out: a label
directory whose shards and keys are those of the tars (`story.run_align`).
"""
