"""CatLIP ViT-L/16 on DataComp-1.3B.

Source    CatLIP, arXiv 2404.15653, and apple/corenet projects/catlip; as ViT-B/16, with a lower learning rate.
Command   torchrun --nnodes 16 --nproc-per-node 8 -m trainer pretrain vit-l16-datacomp
          --images 'datacomp/{00000..N}.tar' --labels labels --vocabulary vocabulary.parquet --out runs/vit-l16-datacomp
Cost      200,000 steps of 65,536 images at 224 pixels, 16.65 billion in all; 128 A100s at 512 images each in the
          original.
Expect    ImageNet-1k: linear probe 85.2 %, fine-tuned at 224 px 86.5 % (the paper's; not reproduced here yet).
"""

from dataclasses import replace
from pathlib import Path

from trainer.config import ModelConfig
from trainer.recipes import vit_b16_datacomp

BASE = vit_b16_datacomp.CONFIG
CONFIG = replace(
    BASE,
    model=ModelConfig(model="vit_large_patch16_224"),
    optim=replace(BASE.optim, peak_lr=6e-4, final_lr=6e-6),
    run=replace(BASE.run, out=Path("runs/vit-l16-datacomp")),
)
