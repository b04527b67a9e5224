"""What an index finds in sound, broken and hostile tars."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pictures import tar_of
from trainer.data.tar_index import FAULTS, IMAGE_EXTENSIONS, NoTarError, TarIndex, index_tar, members_of
from vocab.errors import InputError
from vocab.store.tars import Member, samples

LIMIT = 1 << 20


def index(path: Path) -> TarIndex:
    return index_tar(path, max_member_bytes=LIMIT)


def faults(path: Path) -> list[tuple[str, str]]:
    found = index(path)
    return [(key, FAULTS[code]) for key, code in zip(found.keys, found.faults, strict=True)]


def images(path: Path) -> list[bytes]:
    """The image bytes of each sample that has one."""
    content, found = path.read_bytes(), index(path)
    return [content[o : o + s] for o, s in zip(found.offsets.tolist(), found.sizes.tolist(), strict=True) if o >= 0]


def naive_index(path: Path) -> list[tuple[str, Member | None, str]]:
    """What `index_tar` must equal: samples as objects, one after the other."""
    found = []
    with path.open("rb") as stream:
        every = list(samples(stream))
    for sample in every:
        image = next((sample.members[name] for name in IMAGE_EXTENSIONS if name in sample.members), None)
        fault = "repeated_key" if sample.repeated else ""
        if not sample.whole:
            found.append((sample.key, None, "truncated_tar"))
        elif image is None:
            found.append((sample.key, None, fault or "no_image"))
        else:
            large = "image_too_large" if image.size > 5 else ""
            found.append((sample.key, image, fault or ("empty_image" if image.size == 0 else large)))
    return found


def test_an_index_tells_where_each_image_lies(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "0.tar", ("a.png", b"image of a"), ("a.txt", b"a dog"), ("b.png", b"b"))
    found = index(path)
    assert (found.keys, found.offsets.tolist(), found.sizes.tolist()) == (["a", "b"], [512, 2560], [10, 1])
    assert images(path) == [b"image of a", b"b"]
    assert len(found) == 2


def test_each_fault_that_headers_show_is_named(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "0.tar",
        ("text.txt", b"only text"),
        ("zero.jpg", b""),
        ("large.jpg", bytes(LIMIT + 1)),
        ("twice.jpg", b"x"),
        ("good.jpg", b"x"),
        ("twice.jpg", b"x"),
        ("phone.HEIC", b"x"),
        ("both.jxl", b"x"),
        ("both.jpe", b"x"),
        *((f"{kind}.{kind}", b"x") for kind in ("img", "ppm", "JFIF", "apng")),
    )
    assert faults(path) == [
        ("text", "no_image"),
        ("zero", "empty_image"),
        ("large", "image_too_large"),
        ("twice", "repeated_key"),
        ("good", ""),
        ("twice", "repeated_key"),
        ("phone", "unread_format"),
        ("both", ""),
        ("img", ""),
        ("ppm", ""),
        ("JFIF", ""),
        ("apng", ""),
    ]


def test_of_several_images_of_a_sample_the_first_kind_counts(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "0.tar", ("a.png", b"png"), ("a.JPG", b"jpeg"), ("a.webp", b"webp"), ("b.avif", b"avif"))
    assert images(path) == [b"jpeg", b"avif"]


def test_links_devices_and_paths_upwards_open_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.CHRTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../d.jpg")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert faults(path) == [("../../d", "")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(512, 10_000))
def test_a_cut_tar_keeps_its_whole_samples_and_says_so(tmp_path: Path, cut: int) -> None:
    members = [(f"{number}.{kind}", bytes([number]) * 700) for number in range(3) for kind in ("jpg", "txt")]
    content = tar_of(tmp_path / "0.tar", *members).read_bytes()
    (tmp_path / "1.tar").write_bytes(content[:cut])
    archive_ends = 6 * (512 + 1024) + 512
    assert (faults(tmp_path / "1.tar")[-1][1] == "truncated_tar") == (cut < archive_ends)
    assert (
        images(tmp_path / "1.tar") == [bytes([number]) * 700 for number in range(3)][: len(images(tmp_path / "1.tar"))]
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["jpg", "png", "JPEG", "txt"]), st.sampled_from([0, 1, 9])),
        max_size=8,
    ),
    lost=st.integers(0, 3000),
)
def test_an_index_equals_one_made_of_objects(tmp_path: Path, members: list[tuple[str, str, int]], lost: int) -> None:
    path = tar_of(tmp_path / "0.tar", *((f"{key}.{extension}", b"x" * size) for key, extension, size in members))
    content = path.read_bytes().rstrip(b"\0") + bytes(1500)
    path.write_bytes(content[: max(1, len(content) - lost)] if lost < len(content) - 512 else content)
    found = index_tar(path, max_member_bytes=5)
    wanted = naive_index(path)
    assert list(zip(found.keys, (FAULTS[code] for code in found.faults), strict=True)) == [
        (key, fault) for key, _, fault in wanted
    ]
    assert list(zip(found.offsets.tolist(), found.sizes.tolist(), strict=True)) == [
        (image.offset, image.size) if image is not None else (-1, 0) for _, image, _ in wanted
    ]


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x89PNG" * 500])
def test_a_file_that_is_no_tar_is_told_from_one_that_is_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(NoTarError, match="no readable tar"):
        index(tmp_path / "0.tar")
    with pytest.raises(InputError, match=r"no readable tar .*No such file") as caught:
        index(tmp_path / "1.tar")
    assert not isinstance(caught.value, NoTarError)


def test_no_tar_is_still_no_tar_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(NoTarError) as caught:
        index(tmp_path / "0.tar")
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), NoTarError)  # noqa: S301


def test_an_empty_archive_has_no_samples(tmp_path: Path) -> None:
    assert len(index(tar_of(tmp_path / "0.tar"))) == 0


def test_all_members_of_the_samples_asked_for_are_found_again(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "0.tar",
        ("a.png", b"1"),
        ("a.txt", b"a dog"),
        ("b.png", b"2"),
        ("c.JSON", b"{}"),
        ("a.txt", b"again"),
    )
    found = members_of(path, [0, 2, 3, 9])
    assert found == {
        0: {"png": Member("a.png", 512, 1), "txt": Member("a.txt", 1536, 5)},
        2: {"json": Member("c.JSON", 3584, 2)},
        3: {"txt": Member("a.txt", 4608, 5)},
        9: {},
    }
    path.write_bytes(path.read_bytes()[: 4608 + 2])
    assert members_of(path, [3]) == {3: {}}
    assert members_of(path, []) == {}
    with pytest.raises(InputError, match="no readable tar"):
        members_of(tmp_path / "1.tar", [0])
