"""Photographs from an archive or a folder, with everything that an archive may hold."""

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.dataset import Dataset
from pipeline.data.photographs import Photographs
from pipeline.errors import DataMissing, DataRefused, OutRefused

SMALL = Photographs(size=(8, 8), resize_short=8)
HEADER = ("file", "class_index", "class_name", "license")


def jpeg(number: int) -> bytes:
    """One grey for the whole picture, which JPEG keeps exactly: a picture is known by its first pixel."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (number,) * 3).save(content, "JPEG", quality=95)
    return content.getvalue()


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def write_tar(path: Path, files: Sequence[tuple[str, bytes]], *, others: Sequence[tarfile.TarInfo] = ()) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
        for info in others:
            archive.addfile(info)


def write_labels(folder: Path, rows: Sequence[tuple[str, object, str, str]], header: Sequence[str] = HEADER) -> None:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def lines(n: int) -> list[tuple[str, object, str, str]]:
    return [(f"{number:03}.jpg", 7 * number % 90, f"name {7 * number % 90}", "CC BY") for number in range(n)]


def files(n: int) -> list[tuple[str, bytes]]:
    return [(f"{number:03}.jpg", jpeg(number)) for number in range(n)]


def home(root: Path, *, n: int = 40) -> Path:
    """`n` photographs; number i is grey i, of class 7·i modulo 90."""
    root.mkdir(parents=True, exist_ok=True)
    write_labels(root, lines(n))
    write_tar(root / "images.tar", files(n))
    return root


def read(root: Path, cache: Path) -> Dataset:
    return SMALL(root, cache=cache)


def test_40_photographs_are_dealt_into_4_16_and_20_with_their_own_labels(tmp_path: Path) -> None:
    data = read(home(tmp_path / "set"), tmp_path / "cache")
    assert [len(split) for split in data.splits] == [4, 16, 20]
    assert data.classes == 1000 and data.name == "set" and data.skipped == ()
    assert data.labels[63] == "name 63" and data.labels[90] == "90"  # 7·9, and a class without a photograph
    for split in data.splits:
        assert (split.inputs[:, 0, 0, 0] == split.indices).all()
        assert (split.labels == 7 * split.indices % 90).all()
    assert sorted(np.concatenate([split.indices for split in data.splits])) == list(range(40))


def test_of_10_classes_with_4_photographs_each_half_of_every_class_is_the_test(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_labels(root, [(name, 100 + number % 10, "", "") for number, (name, _) in enumerate(files(40))])
    data = read(root, tmp_path / "cache")
    assert np.bincount(data.test.labels - 100).tolist() == [2] * 10


def test_the_same_seed_deals_the_same_and_another_seed_otherwise(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    first, again = read(root, tmp_path / "a"), read(root, tmp_path / "b")
    assert first.digest == again.digest
    other = Photographs(size=(8, 8), resize_short=8, seed=1)(root, cache=tmp_path / "a")
    assert other.test.indices.tolist() != first.test.indices.tolist()


def test_a_folder_of_40_files_and_a_tar_of_the_folder_are_read_as_the_tar_of_the_files(tmp_path: Path) -> None:
    expected = read(home(tmp_path / "x" / "set"), tmp_path / "cache")
    loose = tmp_path / "y" / "set"
    (loose / "images").mkdir(parents=True)
    write_labels(loose, lines(40))
    for name, content in files(40):
        (loose / "images" / name).write_bytes(content)
    assert read(loose, tmp_path / "cache").digest == expected.digest
    nested = home(tmp_path / "z" / "set")
    write_tar(nested / "images.tar", [(f"images/{name}", content) for name, content in files(40)])
    assert read(nested, tmp_path / "cache").digest == expected.digest


def test_it_is_found_2_folders_below_the_one_that_is_named(tmp_path: Path) -> None:
    home(tmp_path / "data" / "sets" / "mine")
    assert read(tmp_path / "data", tmp_path / "cache").name == "mine"


def test_the_second_run_unpacks_and_decodes_nothing_and_a_new_archive_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = home(tmp_path / "set")
    first = read(root, tmp_path / "cache")
    with monkeypatch.context() as without:
        without.delattr("PIL.Image.open")
        without.delattr("tarfile.open")
        assert read(root, tmp_path / "cache").digest == first.digest
    write_tar(root / "images.tar", [(name, jpeg(200 - number)) for number, (name, _) in enumerate(files(40))])
    assert read(root, tmp_path / "cache").test.inputs.min() > 100
    assert not [path for path in (tmp_path / "cache" / "photographs").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/out.jpg", "..\\out.jpg", "C:\\out.jpg", "..", "/"])
def test_1_name_that_leads_outside_refuses_the_archive_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    root = home(tmp_path / "set")
    write_tar(root / "images.tar", [*files(40), (name, jpeg(0))])
    with pytest.raises(DataRefused, match="leads outside"):
        read(root, tmp_path / "cache")
    assert list((tmp_path / "cache" / "photographs").iterdir()) == []
    assert not list(tmp_path.rglob("*out.jpg"))


def test_2_links_a_device_and_a_pipe_are_passed_over(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    others = [
        member("a.jpg", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("b.jpg", kind=tarfile.LNKTYPE, link="000.jpg"),
        member("c.jpg", kind=tarfile.CHRTYPE),
        member("d.jpg", kind=tarfile.FIFOTYPE),
        member("e.jpg", kind=tarfile.DIRTYPE),
    ]
    write_tar(root / "images.tar", [*files(40), ("readme.txt", b"text")], others=others)
    assert read(root, tmp_path / "cache").skipped == ()
    unpacked = sorted(path.name for path in (tmp_path / "cache" / "photographs").rglob("*") if not path.is_dir())
    assert unpacked == [name for name, _ in files(40)]


def test_a_sparse_member_that_claims_a_terabyte_is_passed_over(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    sparse = member("big.jpg")
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": f"{1 << 40},0",
    }
    write_tar(root / "images.tar", files(40), others=[sparse])
    with tarfile.open(root / "images.tar") as archive:
        assert archive.getmember("big.jpg").size == 1 << 40  # as meant
    assert read(root, tmp_path / "cache").skipped == ()
    assert not list((tmp_path / "cache").rglob("big.jpg"))


def test_an_archive_that_holds_1_name_twice_is_refused(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_tar(root / "images.tar", [*files(40), ("007.jpg", jpeg(99))])
    with pytest.raises(DataRefused, match=r"'007\.jpg' stands in it twice"):
        read(root, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "no tar", "compressed"])
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    root = home(tmp_path / "set")
    archive = root / "images.tar"
    if damage == "cut":
        archive.write_bytes(archive.read_bytes()[:700])  # in the middle of the first photograph
    elif damage == "no tar":
        archive.write_bytes(b"nothing of the kind" * 100)
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.addfile(member("000.jpg"))
    with pytest.raises(DataRefused, match=r"images\.tar is no plain tar archive"):
        read(root, tmp_path / "cache")
    assert list((tmp_path / "cache" / "photographs").iterdir()) == []


def test_2_photographs_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_tar(root / "images.tar", files(38))
    with pytest.raises(DataMissing, match=r"2 of 40 photographs .* missing \(038\.jpg, 039\.jpg\)"):
        read(root, tmp_path / "cache")


def test_a_name_of_400_letters_is_missing_and_no_crash(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_labels(root, [*lines(40), ("x" * 400 + ".jpg", 1, "", "")])
    with pytest.raises(DataMissing, match="1 of 41"):
        read(root, tmp_path / "cache")


def test_an_unlisted_an_unreadable_and_a_repeated_photograph_are_left_out_with_a_line_each(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_labels(root, [*lines(40), ("broken.jpg", 3, "", ""), ("twin.jpg", 4, "", "")])
    extra = [("alone.jpg", jpeg(80)), ("broken.jpg", b"no picture"), ("twin.jpg", jpeg(5))]
    write_tar(root / "images.tar", [*files(40), *extra])
    data = read(root, tmp_path / "cache")
    assert sum(map(len, data.splits)) == 40
    assert [line.split(":")[0] for line in data.skipped] == ["alone.jpg", "twin.jpg", "broken.jpg"]
    assert data.skipped[1] == "twin.jpg: the same photograph as 005.jpg"
    for split in data.splits:
        assert (split.inputs[:, 0, 0, 0] == split.indices).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.jpg", 1000, "", ""), "line 42: the class_index '1000' is no number from 0 to 999"),
        (("a.jpg", -1, "", ""), "'-1'"),
        (("a.jpg", "cat", "", ""), "'cat'"),
        (("a.jpg", "", "", ""), "class_index ''"),
        (("", 1, "", ""), "line 42: '' is no name of a file"),
        (("../a.jpg", 1, "", ""), "no name of a file"),
        (("/etc/passwd", 1, "", ""), "no name of a file"),
        (("000.jpg", 1, "", ""), r"'000\.jpg' stands there twice"),
    ],
)
def test_the_42nd_line_of_the_labels_is_refused_by_number(
    tmp_path: Path, row: tuple[str, object, str, str], message: str
) -> None:
    root = home(tmp_path / "set")
    write_labels(root, [*lines(40), row])
    with pytest.raises(DataRefused, match=message):
        read(root, tmp_path / "cache")


def test_labels_without_1_of_2_columns_without_lines_or_without_utf8_are_refused(tmp_path: Path) -> None:
    root = home(tmp_path / "set")
    write_labels(root, [], header=("file", "label"))
    with pytest.raises(DataRefused, match="no column class_index"):
        read(root, tmp_path / "cache")
    write_labels(root, [])
    with pytest.raises(DataRefused, match="names no photograph"):
        read(root, tmp_path / "cache")
    (root / "labels.csv").write_bytes(b"file,class_index\n\xff\xfe,1\n")
    with pytest.raises(DataRefused, match="UTF-8"):
        read(root, tmp_path / "cache")


def test_without_a_folder_or_its_2_files_the_message_says_what_to_put_there(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "absent", tmp_path):
        with pytest.raises(DataMissing, match=r"labels\.csv, with images\.tar or a folder 'images' beside it"):
            SMALL(folder, cache=tmp_path / "cache")
    write_labels(tmp_path, lines(3))
    with pytest.raises(DataMissing, match="Put them there"):
        read(tmp_path, tmp_path / "cache")


def test_a_cache_that_is_1_file_is_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutRefused, match="cannot be unpacked"):
        read(home(tmp_path / "set"), tmp_path / "cache")


def test_500_photographs_of_308_classes_are_dealt_into_50_200_and_250(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "imagenet-compatible-500"
    if not folder.is_dir():
        pytest.skip(f"missing: {folder}")
    data = Photographs(size=(16, 16), resize_short=16)(folder, cache=tmp_path)
    assert [len(split) for split in data.splits] == [50, 200, 250]
    counts = [np.bincount(split.labels, minlength=1000) for split in data.splits]
    assert np.count_nonzero(sum(counts)) == 308
    assert data.labels[388] == "giant_panda" and data.skipped == ()
    # a class of n photographs has n / 2 in the test, give or take one
    assert np.abs(counts[2] - sum(counts) / 2).max() <= 1
