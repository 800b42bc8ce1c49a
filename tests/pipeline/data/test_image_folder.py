"""Folders of pictures, with everything that people's folders hold."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.dataset import Dataset
from pipeline.data.image_folder import ImageFolder
from pipeline.errors import DataMissing, DataRefused, OutRefused

SMALL = ImageFolder(size=(8, 8), resize_short=8)


def write_pictures(folder: Path, *, n: int = 10, first: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    """PNGs of one colour each: red = its number, so that a picture is known by its first pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + n):
        Image.new("RGB", size, (number, 100, 200)).save(folder / f"{number:03}.png")


def flowers(root: Path) -> Path:
    for label, name in enumerate(("aster", "daisy", "rose")):
        write_pictures(root / name, first=10 * label)
    return root


def numbers(data: Dataset) -> list[list[int]]:
    return [sorted(split.inputs[:, 0, 0, 0].tolist()) for split in data.splits]


def test_3_folders_of_10_are_dealt_into_21_3_and_6(tmp_path: Path) -> None:
    data = SMALL(flowers(tmp_path / "flowers"), cache=tmp_path / "cache")
    assert data.labels == ("aster", "daisy", "rose")
    assert [np.bincount(split.labels).tolist() for split in data.splits] == [[7] * 3, [1] * 3, [2] * 3]
    for split in data.splits:
        assert (split.inputs[:, 0, 0, 0] == split.indices).all()  # the colour is the place in the sorted list
        assert (split.labels == split.indices // 10).all()


def test_the_second_run_reads_the_same_30_pictures_without_decoding_and_a_change_decodes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = flowers(tmp_path / "flowers")
    first = SMALL(root, cache=tmp_path / "cache")
    with monkeypatch.context() as without_pillow:
        without_pillow.delattr("PIL.Image.open")
        assert SMALL(root, cache=tmp_path / "cache").digest == first.digest
    Image.new("RGB", (8, 8), (99, 9, 9)).save(root / "rose" / "020.png")
    assert 99 in chain(*numbers(SMALL(root, cache=tmp_path / "cache")))
    assert not [path for path in (tmp_path / "cache" / "pictures").iterdir() if path.name.startswith(".")]


def test_two_caches_give_one_digest(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    assert SMALL(root, cache=tmp_path / "a").digest == SMALL(root, cache=tmp_path / "b").digest


def test_4_files_that_are_no_pictures_are_named_and_a_hidden_one_is_not(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    whole = (root / "rose" / "020.png").read_bytes()
    Image.effect_noise((64, 64), 90).save(root / "aster" / "noise.jpg")
    noise = (root / "aster" / "noise.jpg").read_bytes()
    (root / "aster" / "noise.jpg").unlink()
    (root / "rose" / "short.png").write_bytes(whole[:50])
    (root / "rose" / "short.jpg").write_bytes(noise[: len(noise) // 2])
    (root / "daisy" / "notes.txt").write_text("water every day")
    (root / "daisy" / "empty.gif").write_bytes(b"")
    (root / "daisy" / ".DS_Store").write_bytes(b"x")
    (root / "list.csv").write_text("a,b")
    data = SMALL(root, cache=tmp_path / "cache")
    assert sum(map(len, data.splits)) == 30
    names = sorted(line.split(":")[0] for line in data.skipped)
    assert names == ["daisy/empty.gif", "daisy/notes.txt", "list.csv", "rose/short.jpg", "rose/short.png"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_a_half_grey_picture_of_any_mode_becomes_three_channels_of_128(tmp_path: Path, mode: str) -> None:
    root = flowers(tmp_path / "flowers")
    value = {"1": 1, "I;16": 0x8000}.get(mode)
    image = Image.new("L", (8, 8), 128).convert(mode) if value is None else Image.new(mode, (8, 8), value)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    image.save(root / "aster" / f"000-{mode.replace(';', '')}.{suffix}")
    data = ImageFolder(size=(8, 8), resize_short=8, fractions=(0.9, 0.05, 0.05))(root, cache=tmp_path / "cache")
    assert data.skipped == ()
    everything = np.concatenate([split.inputs for split in data.splits])
    indices = np.concatenate([split.indices for split in data.splits])
    found = everything[indices == 0].astype(int)  # its name stands before 000.png
    # mode 1 is white; YCbCr rounds by 1
    assert np.abs(found - (255 if mode == "1" else 128)).max() <= (1 if mode == "YCbCr" else 0)


def test_odd_sizes_and_the_first_of_2_frames_come_out_at_8_by_8(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    write_pictures(root / "aster", first=200, n=1, size=(1, 40))
    write_pictures(root / "aster", first=201, n=1, size=(33, 9))
    frames = [Image.new("L", (9, 9), value) for value in (250, 20)]
    frames[0].save(root / "aster" / "film.gif", save_all=True, append_images=frames[1:])
    data = SMALL(root, cache=tmp_path / "cache")
    assert {200, 201, 250} <= set(chain(*numbers(data)))
    assert data.skipped == ()


def test_a_picture_of_101_pixels_is_left_out_when_100_are_allowed(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    write_pictures(root / "aster", first=240, n=1, size=(101, 1))
    data = ImageFolder(size=(8, 8), resize_short=8, pixels_max=100)(root, cache=tmp_path / "cache")
    assert [line.split(" ")[0] for line in data.skipped] == ["aster/240.png:"]
    assert "101×1" in data.skipped[0]


def test_20_copies_of_one_picture_stand_in_one_part(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    content = (root / "rose" / "025.png").read_bytes()
    for n in range(20):
        (root / "rose" / f"copy{n}.png").write_bytes(content)
    held = [part.count(25) for part in numbers(SMALL(root, cache=tmp_path / "cache"))]
    assert sorted(held) == [0, 0, 21]


def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    for first, part, n in ((0, "train", 6), (50, "val", 2), (100, "test", 4)):
        for label, name in enumerate(("a", "b")):
            write_pictures(tmp_path / "d" / part / name, first=first + 10 * label, n=n)
    data = SMALL(tmp_path / "d", cache=tmp_path / "cache")
    assert numbers(data) == [[*range(6), *range(10, 16)], [50, 51, 60, 61], [100, 101, 102, 103, 110, 111, 112, 113]]


def test_with_train_and_val_alone_val_is_the_test_and_an_eighth_of_train_is_validation(tmp_path: Path) -> None:
    for first, part in ((0, "train"), (100, "val")):
        for label, name in enumerate(("a", "b")):
            write_pictures(tmp_path / "d" / part / name, first=first + 20 * label, n=16)
    data = SMALL(tmp_path / "d", cache=tmp_path / "cache")
    assert [len(split) for split in data.splits] == [28, 4, 32]  # 0.1 / (0.7 + 0.1) of 32
    assert min(numbers(data)[2]) == 100


def test_a_test_picture_that_is_also_in_train_is_left_out_of_train(tmp_path: Path) -> None:
    for first, part in ((0, "train"), (100, "test")):
        for label, name in enumerate(("a", "b")):
            write_pictures(tmp_path / "d" / part / name, first=first + 20 * label, n=10)
    (tmp_path / "d" / "train" / "a" / "x.png").write_bytes((tmp_path / "d" / "test" / "a" / "100.png").read_bytes())
    data = SMALL(tmp_path / "d", cache=tmp_path / "cache")
    assert data.skipped == ("train/a/x.png: the same picture as test/a/100.png",)
    assert [100 in part for part in numbers(data)] == [False, False, True]


def test_classes_that_differ_between_train_and_test_are_refused(tmp_path: Path) -> None:
    for part, names in (("train", "abc"), ("test", "abd")):
        for name in names:
            write_pictures(tmp_path / part / name, n=2)
    with pytest.raises(DataRefused, match=r"classes differ from those of the first part \(c, d\)"):
        SMALL(tmp_path, cache=tmp_path / "cache")


@pytest.mark.parametrize("names", [(), ("only",)])
def test_0_classes_and_1_class_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "d").mkdir()
    for name in names:
        write_pictures(tmp_path / "d" / name)
    with pytest.raises(DataRefused, match=f"holds {len(names)} folders of pictures"):
        SMALL(tmp_path / "d", cache=tmp_path / "cache")


def test_a_class_without_a_picture_or_without_a_readable_one_is_refused_by_name(tmp_path: Path) -> None:
    root = flowers(tmp_path / "flowers")
    (root / "tulip").mkdir()
    with pytest.raises(DataRefused, match="tulip: there is no picture in it"):
        SMALL(root, cache=tmp_path / "cache")
    (root / "tulip" / "a.png").write_text("not a picture")
    with pytest.raises(DataRefused, match="no readable picture of 'tulip'"):
        SMALL(root, cache=tmp_path / "cache")


def test_6_files_of_which_none_is_a_picture_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for n in range(3):
            (tmp_path / "d" / name / f"{n}.jpg").write_text(f"{name}{n}")
    with pytest.raises(DataRefused, match="no readable picture of 'a', 'b'"):
        SMALL(tmp_path / "d", cache=tmp_path / "cache")


def test_a_cache_that_is_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutRefused, match="another folder with --out"):
        SMALL(flowers(tmp_path / "flowers"), cache=tmp_path / "cache")


def test_a_folder_is_found_by_its_name_2_levels_down(tmp_path: Path) -> None:
    flowers(tmp_path / "all" / "sets" / "flowers")
    source = ImageFolder(size=(8, 8), resize_short=8, folder_name="flowers")
    assert source(tmp_path / "all", cache=tmp_path / "cache").name == "flowers"
    with pytest.raises(DataMissing, match="no folder 'flowers'"):
        source(tmp_path / "cache", cache=tmp_path / "cache")
    with pytest.raises(DataMissing, match="--data"):
        source(None, cache=tmp_path / "cache")
