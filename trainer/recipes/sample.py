"""A small transformer on the drawn sample: minutes on two CPU cores.

Command   make pretrain, which is: python -m trainer pretrain sample --images ... --labels ... --vocabulary ...
Cost      minutes
Expect    see below
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=64, batch_size=128, workers=1, min_crop_area=0.35, eval_crop=1.0),
    model=ModelConfig(model="vit_tiny_patch16_224", patch_size=16, embed_dim=192, depth=6, num_heads=3),
    optim=OptimConfig(
        steps=500,
        warmup_steps=50,
        peak_lr=1e-3,
        final_lr=1e-5,
        weight_decay=0.05,
        ema_momentum=0.02,
    ),
    run=RunConfig(out=Path("out/runs/sample"), log_every=10, checkpoint_every=200, eval_workers=2),
)
