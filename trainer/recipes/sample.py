"""A small transformer on the drawn sample: minutes on two CPU cores.

Command   make pretrain
Cost      1,200 steps of 64 images, 64 px: about five minutes of two quiet cores.
Expect    see the demo's row in BENCHMARKS.md. Small patches pay off: with 8-pixel patches and a width of 96 the loss
          after 500 steps was that of 16-pixel patches and a width of 192 after 900. Autocast to bfloat16 is 20 times
          slower on a CPU without instructions for it.
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=64, batch_size=64, workers=1, min_crop_area=0.7, eval_crop=1.0),
    model=ModelConfig(
        model="vit_tiny_patch16_224", patch_size=8, embed_dim=96, depth=3, num_heads=3, global_pool="avg"
    ),
    optim=OptimConfig(
        steps=1_200,
        warmup_steps=80,
        peak_lr=3e-3,
        final_lr=3e-5,
        weight_decay=0.05,
        ema_momentum=0.02,
    ),
    run=RunConfig(out=Path("out/runs/sample"), log_every=20, checkpoint_every=300, eval_workers=1),
)
