"""A small transformer on captioned Tiny ImageNet, for the transfer benchmark.

Source    none: found by short trials on two CPU cores that other work shared, judged by processor seconds.
Command   python benchmarks/transfer.py, which is: python -m trainer pretrain benchmarks/transfer_study/recipe.py
          --images captioned --eval-images captioned_test --labels labels --eval-labels labels_test ...
Cost      6,000 steps of 64 images, 27 epochs of 14,000: about 28 minutes of two cores, at 230 images a second.
Expect    linear probe 0.188 on 140 seen classes, 0.268 on 60 unseen ones, zero-shot 0.169 (BENCHMARKS.md). Untrained
          features have 0.046 and 0.089 by the probe of the list below, ridge regression.

What was tried, 64 images a step, cosine to a hundredth of the peak, crops from 0.35, ridge-regression probe:

    width 128, 4 blocks, patch  8, AdamW 2e-3,   400 steps, 160 CPU s    seen 0.054, unseen 0.088, zero-shot 0.030
    width 128, 4 blocks, patch  8, Muon  2e-3,   400 steps, 140 CPU s    seen 0.077, unseen 0.144, zero-shot 0.066
    width 192, 6 blocks, patch 16, AdamW 1e-3,   600 steps, 140 CPU s    seen 0.060, unseen 0.115, zero-shot 0.048
    width 192, 6 blocks, patch 16, Muon  2e-3,   600 steps, 160 CPU s    seen 0.093, unseen 0.147, zero-shot 0.086
    width 192, 6 blocks, patch 16, Muon  5e-3,   600 steps, 170 CPU s    seen 0.086, unseen 0.151, zero-shot 0.083
    width 192, 6 blocks, patch 16, Muon  3e-3, 2,500 steps, 670 CPU s    seen 0.140, unseen 0.201, zero-shot 0.153
    width 128, 4 blocks, patch  8, Muon  3e-3, 1,800 steps, 590 CPU s    seen 0.145, unseen 0.229, zero-shot 0.163
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=64, batch_size=64, workers=1, min_crop_area=0.35, eval_crop=1.0),
    model=ModelConfig(model="vit_tiny_patch16_224", patch_size=8, embed_dim=128, depth=4, num_heads=2),
    optim=OptimConfig(
        steps=6_000,
        optimiser="muon",
        warmup_steps=300,
        peak_lr=3e-3,
        final_lr=3e-5,
        weight_decay=0.05,
        ema_momentum=0.01,
    ),
    run=RunConfig(out=Path("out/transfer/run"), log_every=50, checkpoint_every=1000, eval_workers=1),
)
