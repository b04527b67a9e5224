"""CatLIP ViT-B/16 on DataComp-1.3B.

Source    CatLIP, arXiv 2404.15653, and apple/corenet projects/catlip: batches of 128 to 320 pixels in steps of 16 with
          as many images as keep the pixels of a step constant, RangeAugment from 40 to 20 dB. A variable step has 1.27
          times the images of a fixed one on average.
Command   torchrun --nnodes 8 --nproc-per-node 8 -m trainer pretrain vit-b16-datacomp --images 'datacomp/{00000..N}.tar'
          --labels labels --vocabulary vocabulary.parquet --out runs/vit-b16-datacomp
          Tars in an object store: 's3://bucket/datacomp/{00000..N}.tar' --tar-teams 8 --cache /local/disk
Cost      200,000 steps of 65,536 images at 224 pixels, 83,250 on average over the sizes: 16.65 billion in all (`plan`);
          64 A100s at 1,024 images each in the original. Compiling for 13 sizes, once before the first step: about 3
          minutes of each process, and Triton's compiler beside.
Expect    ImageNet-1k: linear probe 80.8 %, fine-tuned at 224 px 84.3 % (the paper's; not reproduced here yet).
"""

from pathlib import Path

from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig

CONFIG = PretrainConfig(
    data=DataConfig(image_size=224, batch_size=65_536, workers=12, resolution="variable", range_augment="corenet"),
    model=ModelConfig(model="vit_base_patch16_224"),
    optim=OptimConfig(
        steps=200_000,
        warmup_steps=10_000,
        start_lr=1e-6,
        peak_lr=1e-3,
        final_lr=1e-5,
        weight_decay=0.2,
        clip_norm=1.0,
        ema_momentum=0.0005,
    ),
    run=RunConfig(out=Path("runs/vit-b16-datacomp"), compile=True, checkpoint_every=2000, log_every=100),
)
