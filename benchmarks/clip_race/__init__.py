"""Parts of the benchmark that trains CatLIP beside CLIP."""
