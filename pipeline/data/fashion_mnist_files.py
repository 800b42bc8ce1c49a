"""Fashion-MNIST: 70 000 grey pictures of clothes, 28×28, ten classes.

Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747; https://github.com/zalandoresearch/fashion-mnist, MIT licence.

The four files are in the IDX format of MNIST: two zero bytes, one byte for the type (8 = unsigned byte), one for the
number of axes, each axis as a big-endian 32-bit number, then the bytes. They are read packed (.gz) or unpacked.
"""

import gzip
import hashlib
import http.client
import os
import tempfile
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.dataset import Dataset, Split, checked, split_indices
from pipeline.data.find_files import find_all
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused, OutRefused

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LOCATIONS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FILES = {  # name: SHA-256 of the file whose MD5 the official README gives
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",  # md5 8d4fb7e6…
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",  # md5 25c81989…
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",  # md5 bef4ecab…
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",  # md5 bb300cfd…
}
UNSIGNED_BYTE = 8
TIMEOUT_S = 30.0  # of silence, not in all


@dataclass(frozen=True)
class FashionMnist:
    """The official test part is the test; `validation` inputs are taken out of the training part, class by class.

    mean, std: of the 60 000 training pictures, pixels in 0 … 1 · locations: where the files are downloaded from
    """

    validation: int = 5000
    seed: int = 0
    mean: tuple[float] = (0.2860,)
    std: tuple[float] = (0.3530,)
    locations: tuple[str, ...] = LOCATIONS

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """Read the files below `folder`; without a folder they are downloaded once into `cache`."""
        if folder is None:
            paths = [downloaded(name, cache / "fashion-mnist", locations=self.locations) for name in FILES]
        else:
            paths = find_all([(name, name.removesuffix(".gz")) for name in FILES], folder, what="Fashion-MNIST")
        images, labels, test_images, test_labels = (array_from_idx(path) for path in paths)
        for pictures, path in ((images, paths[0]), (test_images, paths[2])):
            if pictures.ndim != 3 or pictures.shape[1:] != (28, 28):
                raise DataRefused(f"{path} holds an array of shape {pictures.shape}; pictures of 28×28 were expected.")
        for pictures, answers, path in ((images, labels, paths[1]), (test_images, test_labels, paths[3])):
            if answers.shape != pictures.shape[:1]:
                raise DataRefused(f"{path} holds labels of shape {answers.shape}, for {len(pictures)} pictures.")
        sizes = (len(labels) - self.validation, self.validation)
        train, validation = split_indices(labels, sizes=sizes, seed=self.seed)
        return checked(
            Dataset(
                "fashion-mnist",
                _split("train", images, labels, train, first=0),
                _split("validation", images, labels, validation, first=0),
                _split("test", test_images, test_labels, np.arange(len(test_labels)), first=len(labels)),
                labels=LABELS,
                preprocess=Preprocess(channels=1, height=28, width=28, mean=self.mean, std=self.std),
            )
        )


def _split(name: str, images: np.ndarray, labels: np.ndarray, places: np.ndarray, *, first: int) -> Split:
    return Split(name, images[places][:, None], labels[places].astype(np.int64), places.astype(np.int64) + first)


def array_from_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file; its header must agree with its length."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataRefused(f"{path} cannot be read ({error}). It may be cut short: fetch it again.") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise DataRefused(f"{path} is not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ')}.")
    axes = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4 : 4 + 4 * axes], dtype=">u4"))
    body = content[4 + 4 * axes :]
    if len(shape) != axes or len(body) != int(np.prod(shape, dtype=np.int64)):
        raise DataRefused(
            f"{path}: its header announces {' × '.join(map(str, shape))} bytes, and {len(body)} follow. "
            "Fetch the file again."
        )
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def downloaded(name: str, folder: Path, *, locations: tuple[str, ...]) -> Path:
    """The file `name` in `folder`, fetched from the first of `locations` that has it if it is not there yet."""
    path = folder / name
    if path.is_file() and _sha256(path.read_bytes()) == FILES[name]:
        return path
    failures = []
    for location in locations:
        try:
            with urllib.request.urlopen(location + name, timeout=TIMEOUT_S) as answer:
                content: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            failures.append(f"{location} ({error})")
            continue
        if _sha256(content) == FILES[name]:
            return _kept(content, path)
        failures.append(f"{location} (what it sent is not the official file)")
    raise DataMissing(
        f"Fashion-MNIST: {name} could not be downloaded from {' nor '.join(failures)}. On a machine without network, "
        f"put the four files {', '.join(FILES)} into a folder and name it with --data."
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _kept(content: bytes, path: Path) -> Path:
    """Write `content` beside `path`, then rename: a file that is there is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as beside:
            beside.write(content)
            beside.flush()
            os.fsync(beside.fileno())
        Path(beside.name).replace(path)
    except OSError as error:
        raise OutRefused(f"{path} cannot be written ({error}). Free some space, or choose another cache.") from error
    return path
