"""What a run reads: no tar is on both sides, and no address shows its signature."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.corpus import make_corpus
from tests.pictures import picture, write_tar
from trainer.data.group import Tar
from trainer.inputs import open_inputs, split_corpora, weights_of
from trainer.records.run_data import in_recorded_order, read_run_data, run_data_of
from vocab.errors import FormatError, InputError, MismatchError
from vocab.store.sealing import sealed


def test_a_tar_held_out_of_one_pattern_is_not_trained_on_through_another(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    patterns = (str(corpus.images), f"{corpus.images}/0000[01].tar")
    data = replace(corpus.config(tmp_path / "run").data, images=patterns, source_weights=(1.0, 1.0))
    with pytest.raises(InputError, match=r"--holdout-shards: found .*00001.tar, which is trained on too"):
        split_corpora(data)
    train, held_out = split_corpora(replace(data, source_weights=()))
    assert [Path(tar).name for tar in train[0].tars] == ["00000.tar", "00001.tar", "00002.tar"]
    assert [Path(tar).name for tar in held_out[0].tars] == ["00003.tar"]


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("00000/{}", r"\(key '00000/(\d+)' of the tar is '\1' in the labels\); .*tar -C FOLDER leaves a folder out"),
        ("a/b/{}", r"\(key 'a/b/(\d+)' of the tar is '\1' in the labels\); .* label these tars themselves"),
        ("0{}", r"\(key '0(\d+)' of the tar is '\1' in the labels\); "),
        ("x{}", r"\(the first key of the tar is 'x(\d+)', and in the labels '\1'\); .* are of other images"),
    ],
)
def test_keys_in_two_spellings_are_shown_side_by_side(tmp_path: Path, spelling: str, message: str) -> None:
    corpus = make_corpus(tmp_path)
    for tar in corpus.images.glob("*.tar"):
        write_tar(tar, {f"{spelling.format(f'{tar.stem}{number:04d}')}.png": picture() for number in range(13)})
    with pytest.raises(MismatchError, match=r"found no row for 26 of 26 samples of .*" + message):
        open_inputs(corpus.config(tmp_path / "run").data, seed=0)


def test_one_tar_cannot_be_split_however_many_are_held_out(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=1)
    with pytest.raises(InputError, match=r"found 1 of 1 tars of .*Name more --images, or give --eval-images"):
        split_corpora(corpus.config(tmp_path / "run").data)


def test_a_tar_that_became_shorter_is_named_without_its_signature(tmp_path: Path) -> None:
    source = make_corpus(tmp_path, tars=1, samples=2).source(train=False)
    group = source.open_group(0, 0)
    group.tars = [Tar("https://host/00000.tar?X-Signature=secret", "00000")]
    (tmp_path / "images" / "00000.tar").write_bytes(b"")
    refusal = r"^https://host/00000.tar\?\.\.\.: found 0 of \d+ bytes of sample '000000000'"
    with contextlib.closing(group), pytest.raises(InputError, match=refusal):
        group.read(0, 0)


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_0(share: float) -> None:
    with pytest.raises(InputError, match="wanted one number above 0 for each"):
        weights_of((1.0, share), 2)


def test_tars_keep_the_order_that_a_run_was_started_with(tmp_path: Path) -> None:
    whole = make_corpus(tmp_path).source()
    train, held_out = replace(whole, tars=whole.tars[:2]), replace(whole, tars=whole.tars[2:3], train=False)
    run_data_of(train, held_out, known=None).write(tmp_path)
    recorded = read_run_data(tmp_path)
    assert recorded is not None
    mixed = replace(train, tars=(whole.tars[2], whole.tars[1])), replace(held_out, tars=whole.tars[:1])
    assert [source.tars for source in in_recorded_order(*mixed, recorded)] == [train.tars, held_out.tars]
    assert run_data_of(train, held_out, known=recorded) == recorded
    with pytest.raises(MismatchError, match=r"--images: found 1 tar that it did not have: \S+/00003.tar; wanted"):
        in_recorded_order(train, replace(held_out, tars=whole.tars[2:]), recorded)
    weighted = replace(train, pools=((0,), (1,)), weights=(0.5, 0.5))
    pools = run_data_of(weighted, held_out, known=None)
    with pytest.raises(
        MismatchError, match=r"00001.tar in number 1 of them; wanted that tar in number 2, whose weight"
    ):
        in_recorded_order(replace(weighted, pools=((1,), (0,))), held_out, pools)
    whole_text = (tmp_path / "data.json").read_text()
    body = json.loads(whole_text[: whole_text.rindex(', "own_sha256"')] + "}")
    tar = body["train"]["tars"][0]
    strange = [{**body, "train": {**body["train"], "tars": [{**tar, name: 1.5}]}} for name in tar]
    for content in ({}, [], {**body, "train": 7}, {**body, "held_out": {**body["train"], "pools": [[True]]}}, *strange):
        for text in (json.dumps(content), json.dumps(sealed(content) if isinstance(content, dict) else content)):
            (tmp_path / "data.json").write_text(text)
            with pytest.raises(FormatError, match=r"no readable record of the run's data .*Remove it; the run then"):
                read_run_data(tmp_path)
