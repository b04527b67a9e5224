"""A small transformer on captioned Tiny ImageNet, for the transfer benchmark."""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=64, batch_size=128, workers=1, min_crop_area=0.35, eval_crop=1.0),
    model=ModelConfig(model="vit_tiny_patch16_224", patch_size=8, embed_dim=128, depth=4, num_heads=2),
    optim=OptimConfig(
        steps=3000,
        warmup_steps=300,
        peak_lr=1e-3,
        final_lr=1e-5,
        weight_decay=0.05,
        ema_momentum=0.01,
    ),
    run=RunConfig(out=Path("out/transfer/run"), log_every=20, checkpoint_every=1000, eval_workers=1),
)
