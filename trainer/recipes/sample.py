"""A small transformer on the drawn sample: minutes on two CPU cores.

Command   make pretrain, which is: python -m trainer pretrain sample --images ... --labels ... --vocabulary ...
Cost      1,200 steps of 64 images at 64 px: 2 min 15 s at 570 images/s, two cores with nothing else to do.
Expect    macro mean average precision 0.094 to 0.096 against 0.018 from class frequencies alone,
          micro 0.16 against 0.063, over 168 classes in 971 held-out images. Most of these classes are words that no
          picture shows: stock, gift, morning.

What was tried on the sample's labels as an earlier labeler made them from its captions, 185 classes:

    patch 16, width 192, 6 blocks, rate 2e-3, 1,000 steps of 64 images    mean average precision 0.072, last loss 14.6
    patch 8, width 96, 3 blocks, rate 3e-3, 1,200 steps of 64 images      mean average precision 0.104, last loss 13.4

and before, with the 63 true synsets of 10,000 scenes, so without caption noise (frequencies alone 0.037), 200 CPU
seconds of one thread each:

    patch 16, width 192, 6 blocks, class token, batch 128, rate 1e-3, crops from 0.35    164 images/s    0.170
    patch 8, width 128, 4 blocks, average pool, batch 64, rate 1e-3, crops from 0.7      117 images/s    0.170
    patch 16, width 192, 6 blocks, class token, batch 64, rate 1e-3, crops from 0.7      158 images/s    0.184
    patch 16, width 192, 6 blocks, average pool, batch 64, rate 2e-3, crops from 0.7     162 images/s    0.184

bfloat16 on this CPU was 14 to 26 times slower than float32. One loading process is enough: the trainer waits for data
less than 3 % of the time.
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
