"""The parts of `benchmarks/dense.py`: segmentation and detection on a few real images of COCO."""
