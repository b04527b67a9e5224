"""CatLIP ViT-B/16 on CC3M.

Source    CatLIP, arXiv 2404.15653, the CC3M ablations: batch 2,048, peak 2e-3, final 2e-5, V_tau 500; 25, 50, 75 or 100
          epochs, this is 25 (about 2.9 million images, 1,416 steps each). What the paper leaves open (warm-up, weight
          decay, crops, EMA) is as on DataComp, the warm-up in proportion.
Command   torchrun --nproc-per-node 8 -m trainer pretrain vit-b16-cc3m --images 'cc3m/{00000..00331}.tar'
          --labels labels --vocabulary vocabulary.parquet --out runs/vit-b16-cc3m
Cost      72.5 million images; at 4,500 images/s about 4.5 hours of one H200 (calculated).
          Compiling, once before the first step: about 15 s of each process, and Triton's compiler beside.
Expect    after 100 epochs, ImageNet-1k: linear probe 58.0 %, fine-tuned 67.3 % (the paper's; not reproduced here yet).
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=224, batch_size=2048, workers=12),
    model=ModelConfig(model="vit_base_patch16_224"),
    optim=OptimConfig(
        steps=35_400,
        warmup_steps=1_770,
        start_lr=1e-6,
        peak_lr=2e-3,
        final_lr=2e-5,
        weight_decay=0.2,
        clip_norm=1.0,
        ema_momentum=0.0005,
    ),
    run=RunConfig(out=Path("runs/vit-b16-cc3m"), compile=True, checkpoint_every=1000, log_every=50),
)
