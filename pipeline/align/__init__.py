"""Labels made by id, joined to image tars that were downloaded later."""
