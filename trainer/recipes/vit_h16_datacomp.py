"""CatLIP ViT-H/16 on DataComp-1.3B.

Source    CatLIP, arXiv 2404.15653, and apple/corenet projects/catlip; as ViT-B/16, with a lower learning rate. timm has
          ViT-H with patches of 14 pixels; here they are of 16. Weights and optimiser are shared out (FSDP2).
Command   torchrun --nnodes 32 --nproc-per-node 8 -m trainer pretrain vit-h16-datacomp
          --images 'datacomp/{00000..N}.tar' --labels labels --vocabulary vocabulary.parquet --out runs/vit-h16-datacomp
Cost      200,000 steps of 65,536 images at 224 pixels, 16.65 billion in all; 256 A100s at 256 images each in the
          original.
Expect    ImageNet-1k: linear probe 86.1 %, fine-tuned at 224 px 86.7 % (the paper's; not reproduced here yet).
"""

from dataclasses import replace
from pathlib import Path

from trainer.config import ModelConfig
from trainer.recipes import vit_b16_datacomp

BASE = vit_b16_datacomp.CONFIG
CONFIG = replace(
    BASE,
    model=ModelConfig(model="vit_huge_patch14_224", patch_size=16),
    optim=replace(BASE.optim, peak_lr=4e-4, final_lr=4e-6),
    run=replace(BASE.run, parallel="fsdp", out=Path("runs/vit-h16-datacomp")),
)
