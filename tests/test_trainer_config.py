"""Options: what cannot work is refused before anything is read; recipes are whole; two configurations are compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import Corpus
from trainer.__main__ import RECIPES, read
from trainer.config import DataConfig, PretrainConfig, RunConfig, check, differences, eval_workers_of, to_json
from vocab.errors import InputError

CORPUS = Corpus(Path("images"), Path("labels"), Path("vocabulary.parquet"))


def read_config(words: list[str]) -> PretrainConfig:
    """Options of `python -m trainer pretrain`."""
    found = read(["pretrain", *words])
    assert isinstance(found, PretrainConfig)
    return found


def config(**changes: Any) -> PretrainConfig:
    return CORPUS.config(Path("out"), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ()}, r"--images: found nothing; wanted a path\. Add: --images PATH"),
        ({"labels": ""}, "--labels: found nothing"),
        ({"vocabulary": ""}, "--vocabulary: found nothing"),
        ({"batch_size": 10}, r"--batch-size: found 10; wanted a multiple of 2 processes x 2 parts\. Choose 8"),
        ({"batch_size": 0}, r"--batch-size: found 0; wanted more than 0\. Choose a larger --batch-size"),
        ({"accumulate": 0}, r"--accumulate: found 0; wanted more than 0\. Choose a larger --accumulate"),
        ({"image_size": 0}, "--image-size: found 0"),
        ({"min_crop_area": 1.5}, "--min-crop-area: found 1.5; wanted more than 0, and at most 1"),
        ({"warmup_steps": 6}, "--warmup-steps: found 6 of 6 steps"),
        ({"holdout_shards": 0}, "--holdout-shards: found 0, and no --eval-images"),
        ({"workers": -1}, "--workers: found -1"),
        ({"cache_gb": float("inf")}, "--cache-gb: found inf; wanted more than 0, and finite"),
        ({"max_bad_share": float("nan")}, "--max-bad-share: found nan"),
        ({"embed_dim": 17}, "--embed-dim: found 17 for 2 heads"),
        ({"steps": 0}, "--steps: found 0"),
        ({"num_heads": 0}, "--num-heads: found 0; wanted more than 0"),
        ({"patch_size": 0}, "--patch-size: found 0; wanted more than 0"),
        ({"depth": 0}, "--depth: found 0; wanted more than 0"),
        ({"weight_decay": float("inf")}, "--weight-decay: found inf; wanted 0 or more, and finite"),
    ],
)
def test_an_option_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(config(**({"accumulate": 2} | changes)), world=2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_needs_only_its_data(name: str) -> None:
    chosen = read_config([name, "--images", "a.tar", "b.tar", "--labels", "labels", "--vocabulary", "v.parquet"])
    assert chosen.data.images == ("a.tar", "b.tar")
    check(chosen, world=1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_tells_its_command_and_what_to_expect(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"pretrain {name}" in text
    assert all(word in text for word in ("Command", "Cost", "Expect"))


def test_fields_are_set_by_their_names_alone() -> None:
    chosen = read_config(["sample", "--batch-size", "32", "--peak-lr", "0.1", "--out", "here", "--no-flip"])
    assert (chosen.data.batch_size, chosen.optim.peak_lr, chosen.run.out) == (32, 0.1, Path("here"))
    assert not chosen.data.flip


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^--batch-sise: found no option of that name; .* Did you mean --batch-size\?"
    ):
        read_config(["sample", "--batch-sise", "32"])


def test_field_names_are_unique_over_all_parts() -> None:
    parts = [field.default_factory() for field in dataclasses.fields(PretrainConfig)]  # type: ignore[misc]
    names = [field.name for part in parts for field in dataclasses.fields(part)]
    assert len(names) == len(set(names))


def test_a_stored_configuration_holds_no_secret_and_another_one_is_no_difference() -> None:
    def signed(word: str) -> PretrainConfig:
        images = f"https://me:{word}@host/{{00..99}}.tar?X-Amz-Signature={word}"
        return config(images=(f"{images}::https://me:{word}@host/labels", f"pipe:curl -u me:{word} https://host/0.tar"))

    text = to_json(signed("first"))
    assert "first" not in text
    assert json.loads(text)["data"]["images"] == ["https://host/{00..99}.tar?...::https://host/labels", "pipe:..."]
    assert differences(json.loads(text), signed("second")) == {}
    # As an older release wrote it.
    older = json.loads(text) | {"data": json.loads(text)["data"] | {"images": list(signed("first").data.images)}}
    assert differences(older, signed("second")) == {}
    assert differences(json.loads(text), config(images=("https://other/{00..99}.tar",))).keys() == {"data.images"}


def test_a_stored_configuration_differs_only_where_it_matters() -> None:
    stored = json.loads(to_json(config()))
    assert differences(stored, config(steps=9, log_every=7, eval_workers=1)) == {}
    assert differences(stored, config(peak_lr=0.5, seed=3)) == {
        "optim.peak_lr": (0.003, 0.5),
        "run.seed": (0, 3),
    }


def test_a_gpu_is_evaluated_on_with_as_many_loaders_as_it_is_trained_with() -> None:
    config = PretrainConfig(data=DataConfig(workers=12))
    assert [eval_workers_of(config, device) for device in ("cuda", "cpu")] == [12, 2]
    given = PretrainConfig(run=RunConfig(eval_workers=5))
    assert [eval_workers_of(given, device) for device in ("cuda", "cpu")] == [5, 5]


def test_recipes_for_gpus_are_compiled_and_the_sample_for_a_cpu_is_not() -> None:
    compiled = {name: module.CONFIG.run.compile for name, module in RECIPES.items()}
    gpus = dict.fromkeys(("vit-b16-cc3m", "vit-b16-datacomp", "vit-l16-datacomp", "vit-h16-datacomp"), True)
    assert compiled == {"sample": False, **gpus}
