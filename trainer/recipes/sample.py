"""A small convolutional network on the drawn sample: minutes on two CPU cores.

Command   make pretrain, which is: python -m trainer pretrain sample --images ... --labels ... --vocabulary ...
Cost      1,400 steps of 64 images at 64 px: 14 processor-minutes, in 13 minutes on two cores that
          other work kept busy too; so about 7 on two idle cores, which was not measured.
Expect    macro mean average precision 0.494 against 0.018 from class frequencies alone, micro 0.625 against 0.059, over
          113 classes in 971 held-out images; top-1 79.0 %, where 87.0 % of the images have a label at all.

What was tried with these labels, one thread, 150 processor-seconds at a rate of 3e-3, all pictures kept:

    resnet10t                                          131 images/s    mean average precision 0.204, top-1 56 %
    regnety_002                                        275 images/s    mean average precision 0.102, top-1 37 %

and 120 processor-seconds:

    resnet10t, sizes 40, 56 and 64 in that order       165 images/s    mean average precision 0.183, top-1 52 %
    resnet10t, batch 32, sizes 48, then 64             142 images/s    mean average precision 0.185, top-1 53 %

A transformer (patch 8, width 96, 3 blocks, 1,200 steps) reached 0.096 with labels that an earlier labeler
made, over 168 classes, most of which no picture shows.

With that transformer, bfloat16 on this CPU was 14 to 26 times slower than float32. One loading process is enough: the
trainer waits for data less than 1 % of the time.
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=64, batch_size=64, workers=1, min_crop_area=0.7, eval_crop=1.0, unlabelled="drop"),
    model=ModelConfig(model="resnet10t"),
    optim=OptimConfig(
        steps=1_400,
        warmup_steps=100,
        peak_lr=3e-3,
        final_lr=3e-5,
        weight_decay=0.05,
        beta2=0.99,
        ema_momentum=0.02,
    ),
    run=RunConfig(out=Path("out/runs/sample"), log_every=20, checkpoint_every=350, eval_workers=1, gallery=10),
)
