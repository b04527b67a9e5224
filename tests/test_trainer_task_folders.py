"""Class folders: which files are images of which class, and what the file store gives of them."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from tests.pictures import classed, folders, picture
from trainer.data.batch import Skipped
from trainer.data.images import BadImage
from trainer.data.labelled_images import ImageStore, LabelledImages
from trainer.transfer.config import TaskConfig
from trainer.transfer.tasks.class_folders import open_class_folders
from trainer.transfer.tasks.files import FileStore, check_bad_share, look_up, shared_files
from trainer.transfer.tasks.opening import notes_of, open_images
from vocab.errors import InputError


def opened(root: Path, max_bad_share: float = 0.1) -> LabelledImages:
    return open_class_folders(str(root), max_bad_share=max_bad_share)


def test_classes_are_numbered_by_their_folders_in_ascending_order(tmp_path: Path) -> None:
    root = folders(tmp_path, n02=["b.JPEG", "a.jpg"], n01=["near/2.png", "1.webp"], n10=["0.tiff"])
    images = opened(root)
    assert images.labels == ("n01", "n02", "n10")
    assert images.names == ("n01/1.webp", "n01/near/2.png", "n02/a.jpg", "n02/b.JPEG", "n10/0.tiff")
    assert images.one_class.tolist() == [0, 0, 1, 1, 2]
    assert images.rows.tolist() == [0, 1, 2, 3, 4]
    assert images.skipped == ()
    assert isinstance(images.store, ImageStore)
    with pickle.loads(pickle.dumps(images.store)).open() as read:  # noqa: S301 - its own bytes
        assert read(3) == picture()


def test_ten_comes_before_two_as_in_torchvision(tmp_path: Path) -> None:
    assert opened(folders(tmp_path, **{"2": ["a.png"], "10": ["a.png"]})).labels == ("10", "2")


def test_an_empty_class_keeps_its_number(tmp_path: Path) -> None:
    images = opened(folders(tmp_path, a=["0.png"], b=[], c=["0.png"]))
    assert images.labels == ("a", "b", "c")
    assert images.one_class.tolist() == [0, 2]
    assert images.images_by_class.tolist() == [1, 0, 1]


def test_hidden_files_are_not_seen_and_other_files_are_counted(tmp_path: Path) -> None:
    root = folders(tmp_path, a=["0.png", "._0.png", "0.txt", "boxes/0.xml"], b=["0.png", "1.PPM", "2.jfif", "3.img"])
    folders(root / ".cache", a=["0.png"])
    (root / "README.md").write_text("classes")
    images = opened(root)
    assert images.names == ("a/0.png", "b/0.png", "b/1.PPM", "b/2.jfif", "b/3.img")
    assert [(bad.key, bad.reason) for bad in images.skipped] == [
        ("a/0.txt", "other_file"),
        ("a/boxes/0.xml", "other_file"),
        ("README.md", "other_file"),
    ]
    # An image by its name that nothing decodes is a bad one, and named.
    folders(root, c=["4.heic", "5.JXL"])
    with pytest.raises(InputError, match=r"2 unread_format.* for example c/4.heic, c/5.JXL"):
        opened(root)


LEFTOVERS = (
    "__MACOSX",
    ".ipynb_checkpoints",
    "@eaDir",
    ".DS_Store",
    "._cat",
    "Thumbs.db",
    "lost+found",
    "$RECYCLE.BIN",
)


def test_what_a_system_leaves_is_no_class_and_no_image(tmp_path: Path) -> None:
    root = folders(tmp_path / "folders", cat=["0.png"], _background_=["0.png"])
    for name in LEFTOVERS:
        for inside in (root, root / "cat"):
            (inside / name).mkdir()
            (inside / name / "1.png").write_bytes(picture())
        (root / f".{name}.png").write_bytes(b"")
    assert opened(root).labels == ("_background_", "cat")
    assert opened(root).names == ("_background_/0.png", "cat/0.png")
    assert opened(root).skipped == ()
    (root / "only_leftovers" / ".cache").mkdir(parents=True)
    assert notes_of("test", opened(root)) == ["test: 1 of 3 classes has no image: only_leftovers"]
    shutil.rmtree(root / "only_leftovers")
    task = TaskConfig(train="", test="", cache=tmp_path / "cache")
    assert open_images(str(root), task).labels == ("_background_", "cat")
    # Beside tars, such a folder makes no class folders of them.
    tars = classed(tmp_path / "tars" / "0.tar", {"0": b"0", "1": b"1"}).parent
    for name in LEFTOVERS:
        (tars / name).mkdir()
    assert open_images(str(tars), task).labels == ("0", "1")


def test_bad_images_are_named_and_bounded(tmp_path: Path) -> None:
    root = folders(tmp_path, a=["0.png", "1.png"], b=["0.png", "gone.png"])
    (root / "a" / "1.png").write_bytes(b"")
    (root / "b" / "gone.png").unlink()
    (root / "b" / "gone.png").symlink_to("nowhere")
    (root / "loose.png").write_bytes(picture())
    os.mkfifo(root / "b" / "pipe.png")
    with pytest.raises(InputError, match=r"found 2 of 6 images .*for example loose.png, .*--task.max-bad-share"):
        opened(root)
    assert {(bad.key, bad.reason) for bad in opened(root, 0.7).skipped} == {
        ("loose.png", "no_class"),
        ("a/1.png", "empty_image"),
        ("b/gone.png", "missing"),
        ("b/pipe.png", "unreadable"),
    }


def test_links_are_followed_and_loops_refused(tmp_path: Path) -> None:
    real = folders(tmp_path / "real", dog=["0.png"], cat=["0.png"])
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "dog").symlink_to(real / "dog")
    (linked / "cat").mkdir()
    (linked / "cat" / "mine.png").symlink_to(real / "cat" / "0.png")
    images = opened(linked)
    assert images.names == ("cat/mine.png", "dog/0.png")
    with images.store.open() as read:
        assert read(0) == picture()
    (real / "dog" / "again").symlink_to(real)
    with pytest.raises(InputError, match="a link to a folder that it lies in"):
        opened(linked)


@pytest.mark.parametrize("link", ["c", "a/more", "a/deep/more"])
def test_a_folder_whose_link_leads_nowhere_is_an_error(tmp_path: Path, link: str) -> None:
    root = folders(tmp_path, a=["0.png"], b=["0.png"])
    (root / "a" / "deep").mkdir()
    (root / link).symlink_to(tmp_path / "moved")
    with pytest.raises(InputError, match=f"{link}: found a link that leads nowhere"):
        opened(root)


def test_a_link_to_itself_is_an_image_that_cannot_be_read_or_an_error(tmp_path: Path) -> None:
    root = folders(tmp_path, a=["0.png"], b=["0.png"])
    (root / "a" / "1.png").symlink_to("1.png")
    images = open_class_folders(str(root), max_bad_share=0.5)
    assert [(bad.key, bad.reason) for bad in images.skipped] == [("a/1.png", "unreadable")]
    for link in ("a/more", "c"):
        (root / link).symlink_to(Path(link).name)
        with pytest.raises(InputError, match=f"{link}: found a link that leads nowhere"):
            opened(root)
        (root / link).unlink()


def test_folders_that_are_none_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        opened(tmp_path / "absent")
    (tmp_path / "0.png").write_bytes(picture())
    with pytest.raises(InputError, match=r"1 file and no folder.*give a \.csv"):
        opened(tmp_path)
    with pytest.raises(InputError, match="0 of 0 images"):
        opened(folders(tmp_path / "empty", a=[], b=[]))
    with pytest.raises(InputError, match="control characters"):
        opened(folders(tmp_path / "odd", **{"a\nb": ["0.png"]}))
    (tmp_path / "latin" / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    with pytest.raises(InputError, match=r"caf\\xe9: found a class whose name is not UTF-8"):
        opened(tmp_path / "latin")


def test_a_file_name_that_is_not_utf8_is_shown_escaped_and_read(tmp_path: Path) -> None:
    root = folders(tmp_path, a=[os.fsdecode(b"caf\xe9.png")], b=["0.png"])
    images = opened(root)
    assert images.names == ("a/caf\\xe9.png", "b/0.png")
    with images.store.open() as read:
        assert read(0) == picture()


def test_the_fingerprint_tells_bytes_that_may_be_others(tmp_path: Path) -> None:
    root = folders(tmp_path, a=["0.png"], b=["0.png"])
    before = opened(root).fingerprint
    assert opened(root).fingerprint == before
    found = (root / "a" / "0.png").stat()
    os.utime(root / "a" / "0.png", ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    touched = opened(root).fingerprint
    (root / "a" / "0.png").rename(root / "a" / "1.png")
    assert len({before, touched, opened(root).fingerprint}) == 3


def store_of(root: Path, *names: str, max_bytes: int = 1 << 20) -> FileStore:
    return look_up(str(root), names, max_bytes=max_bytes).store


def test_a_file_that_is_gone_is_a_bad_image_and_one_that_was_changed_an_error(tmp_path: Path) -> None:
    for name in ("gone", "changed", "pipe", "grown"):
        (tmp_path / name).write_bytes(b"12345")
    store = store_of(tmp_path, "gone", "changed", "pipe", "grown", max_bytes=8)
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"123456")
    (tmp_path / "pipe").unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "grown").write_bytes(b"123456789")
    for image, reason in ((0, "missing"), (2, "unreadable"), (3, "image_too_large")):
        with pytest.raises(BadImage, match=reason):
            store.read(image)
    with pytest.raises(InputError, match="changed: found a file of 6 bytes that was changed; wanted the file of 5"):
        store.read(1)


def test_a_file_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"123456789")
    (tmp_path / "fits").write_bytes(b"12345678")
    found = look_up(str(tmp_path), ["large", "fits", "fits/below", "x" * 300], max_bytes=8)
    assert found.kept.tolist() == [1]
    assert [bad.reason for bad in found.skipped] == ["image_too_large", "missing", "missing"]


def test_one_file_under_two_names_is_found_in_both_stores(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "hard").hardlink_to(tmp_path / "c")
    train, test = store_of(tmp_path, "a", "b", "c"), store_of(tmp_path, "link", "hard")
    # A hard link is a file of its own as far as paths tell.
    assert shared_files(train, test) == [str(tmp_path / "b")]
    assert shared_files(train, train) == [str(tmp_path / name) for name in ("a", "b", "c")]


def test_no_image_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="found 0 of 0 images"):
        check_bad_share("here", 0, (), 1.0)


def test_the_share_of_bad_images_that_is_wanted_is_named_as_it_was_given() -> None:
    with pytest.raises(
        InputError, match=r"found 99 of 100 images .*; wanted at least one, and at most 0\.4% of no use"
    ):
        check_bad_share("--task.test", 99, [Skipped("", "a.png", "not_an_image")], 0.004)
