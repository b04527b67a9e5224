"""The story of `python -m trainer import`: Apple's released CatLIP weights to the folder that runs are exported to.

In: a .pt file of CoreNet, and the .pkl vocabulary released beside it. Out: the folder of `trainer/weights/folder.py`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.resolution import check_size
from trainer.records.card import SHOWN_SYNSETS, classes, front_matter
from trainer.verb_config import ImportConfig
from trainer.weights.corenet import (
    ARCHITECTURE,
    FIRST_CONV,
    PATCH,
    REMEDY,
    Converted,
    ConvStemSizes,
    check_classes,
    convert,
)
from trainer.weights.folder import CARD, ModelSpec, Preprocessing, fill, load_model, new_folder
from trainer.weights.vocabulary_pickle import read_vocabulary
from vocab.errors import InputError, MismatchError
from vocab.pages.tables import in_markdown
from vocab.pages.text import counted
from vocab.store.locations import Location, name_of, read_whole
from vocab.vocabulary import Vocabulary

# Width and blocks (apple/corenet, modeling/models/classification/config/vit.py).
SIZES = {"vit_base": (768, 12), "vit_large": (1024, 24), "vit_huge": (1280, 32)}
TRAINED_SIZE = 224
# CoreNet's images are in [0, 1], not centred; its ImageNet configurations resize to 232 and keep the central 224.
MEAN, STD, CROP = 0.0, 1.0, 224 / 232
# Names of the weights in CoreNet's whole checkpoints; the averaged weights first, since those were released.
WHOLE_CHECKPOINT = ("ema_state_dict", "model_state_dict")


def import_released(wanted: ImportConfig) -> str:
    """Write the folder, and return a message for the user.

    Raises OutputExistsError if `out` exists; InputError for files that are not what was released; MismatchError for
    weights of another size or another number of classes than asked for.
    """
    check_size("image-size", wanted.image_size, PATCH)
    with new_folder(wanted.out) as work:
        converted = convert(read_tensors(wanted.weights), image_size=wanted.image_size)
        _check_size(wanted, converted.shape)
        check_classes(converted, wanted.classes)
        vocabulary = read_vocabulary(wanted.vocabulary, classes=converted.classes)
        fill(work, converted.tensors, _build(converted), vocabulary, classifier=True)
        (work / CARD).write_text(_card(wanted, converted.shape, vocabulary))
        # This also checks that nothing is missing.
        load_model(work)
    classes = counted(converted.classes, "class", "classes")
    sizes = f"width {converted.shape.embed_dim}, {converted.shape.depth} blocks, {classes}"
    return f'{wanted.out}: {sizes}\ntrainer.weights.folder.load_model("{wanted.out}") loads it'


def read_tensors(path: Location) -> dict[str, Tensor]:
    """Read the weights of a .pt file without running its code. Raises InputError unless it holds tensors by name."""
    try:
        file = path if isinstance(path, Path) else io.BytesIO(read_whole(path))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise _no_weights(path, f"no readable weights ({str(error).partition(chr(10))[0]})") from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in WHOLE_CHECKPOINT if content.get(name)), content)
    if not isinstance(content, Mapping) or not content:
        raise _no_weights(path, f"a {type(content).__name__} without tensors")
    other = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other:
        raise _no_weights(path, f"{other[0]!r:.60}, which is not a tensor with a name")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _no_weights(path: Location, found: str) -> InputError:
    return InputError(path, found=found, wanted="CoreNet's weights, as torch.save writes them", remedy=REMEDY)


def _check_size(wanted: ImportConfig, shape: ConvStemSizes) -> None:
    found = (shape.embed_dim, shape.depth)
    if wanted.model is not None and found != SIZES[wanted.model]:
        width, depth = SIZES[wanted.model]
        raise MismatchError(
            wanted.weights,
            found=f"width {found[0]} and {found[1]} blocks",
            wanted=f"{wanted.model}: width {width} and {depth} blocks",
            remedy="Give the file of that model, or another --model.",
        )


def _build(converted: Converted) -> ModelSpec:
    return ModelSpec(
        architecture=ARCHITECTURE,
        arguments=vars(converted.shape),
        preprocessing=Preprocessing(converted.shape.img_size, MEAN, STD, CROP),
        features=converted.shape.embed_dim,
        global_pool="token",
        first_conv=FIRST_CONV,
        about={"license": "other", "origin_url": "https://github.com/apple/corenet"},
        loss="bce",
    )


def _card(wanted: ImportConfig, shape: ConvStemSizes, vocabulary: Vocabulary) -> str:
    trained = shape.img_size == TRAINED_SIZE
    written = (
        "as released" if trained else f"interpolated from {TRAINED_SIZE} to {shape.img_size} pixels as CoreNet does"
    )
    named = next((f"{name}, " for name, sizes in SIZES.items() if sizes == (shape.embed_dim, shape.depth)), "")
    return CARD_TEXT.format(
        front=front_matter(licence="other", tags=["catlip", "wordnet", "multi-label"], labelled=True),
        title=in_markdown(name_of(wanted.out)),
        file=in_markdown(name_of(wanted.weights)),
        named=named,
        width=shape.embed_dim,
        depth=shape.depth,
        heads=shape.num_heads,
        size=shape.img_size,
        written=written,
        architecture=ARCHITECTURE,
        shown=min(SHOWN_SYNSETS, len(vocabulary)),
        classes=classes(vocabulary),
    )


CARD_TEXT = """\
{front}
# {title}

CatLIP weights that Apple released with CoreNet ({file}), under timm's names: {named}width {width}, {depth} blocks,
{heads} heads, pre-trained on DataComp's captions (arXiv 2404.15653). Nothing was trained; the position embeddings are
{written}.

## Loading

The model is a VisionTransformer of timm with three convolutions in front. timm has no name for it, so that
timm.create_model refuses the architecture {architecture}; this loads it:

```python
import timm
from PIL import Image
from trainer.weights.folder import load_model

model = load_model("FOLDER").requires_grad_(False)
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
shares = model(transform(Image.open("picture.jpg").convert("RGB"))[None])[0].sigmoid()
for label in shares.topk({shown}).indices.tolist():
    synset = model.pretrained_cfg["label_names"][label]
    print(f"{{shares[label]:.0%}}", synset, model.pretrained_cfg["label_descriptions"][synset])
```

FOLDER is the folder of this card, and picture.jpg any picture. Images are float32 [batch, 3, {size}, {size}] in [0, 1]:
CoreNet neither subtracts a mean nor divides by a deviation.

Without this package, at width 768: timm's vit_base_mci_224 with num_classes takes model.safetensors as it is, and
computes the same after `model.patch_embed.backbone[0].conv.padding = (1, 1)`. Left at its own padding of 0, it gives
other logits: it sees every image a pixel away from where the weights expect it.

For another image size, import the weights again with --image-size: CoreNet interpolates position embeddings along the
sequence of patches, timm over the two sides of the image.

## Classes

{classes}
The counts are those of the released vocabulary. It does not say how many captions were counted.

## Limits

Labels were mined from the captions that stood beside pictures on the web, as the first sense of each noun: a word that
means something else there gets the wrong synset, and a class that no caption names counts as absent. Captions carry the
prejudices of whoever wrote them. WordNet has classes for people, some of them derogatory; no class says what a person
is.

## Licence

The weights: Apple's, under the licence that CoreNet was released with; read it there before you pass them on. Names,
lemmas and offsets of the classes come from WordNet 3.0, Princeton University, under the WordNet licence; its text goes
with them (LICENSE.wordnet).
"""
