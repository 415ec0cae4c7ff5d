"""Published archives with a few dummy images, byte for byte in the original formats."""

import gzip
import hashlib
import io
import tarfile
import zipfile

import numpy as np
import PIL.Image
import scipy.io

from experiments.data.prepare import Archive

SYNSETS = ("n01440764", "n02102040", "n02979186")


def archive_of(path, url):
    """What a file would be published as, at an address."""
    content = path.read_bytes()
    return Archive(url, len(content), hashlib.sha256(content).hexdigest())


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def jpeg(image, mode="RGB", kind="jpeg"):
    file = io.BytesIO()
    PIL.Image.fromarray(image).convert(mode).save(file, kind)
    return file.getvalue()


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def idx(array):
    """LeCun's format: two zeros, 8 for bytes, the dimensions, the sizes, the data."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


def mnist(folder, train=30, test=20):
    """The four files; returns images and labels by split."""
    found = {}
    for split, prefix, count in (("train", "train", train), ("test", "t10k", test)):
        images, labels = pixels(count, count, 28, 28), np.arange(count) % 10
        labels = labels.astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
        found[split] = images[..., None], labels
    return found


def cifar(folder, *, fine=False, count=20):
    """``cifar-10-binary.tar.gz`` or that of CIFAR-100."""
    if fine:
        top, classes = "cifar-100-binary", 100
        files = {"train": ["train.bin"], "test": ["test.bin"]}
        names = {"coarse_label_names.txt": 20, "fine_label_names.txt": 100}
    else:
        top, classes = "cifar-10-batches-bin", 10
        batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
        files = {"train": batches, "test": ["test_batch.bin"]}
        names = {"batches.meta.txt": 10}
    found, seed = {}, 0
    path = folder / f"cifar-{classes}-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for split, members in files.items():
            parts = []
            for member in members:
                seed += 1
                images = pixels(seed, count, 32, 32, 3)
                labels = (np.arange(count) % classes).astype(np.uint8)
                parts.append((images, labels))
                columns = [labels[:, None], images.transpose(0, 3, 1, 2)]
                columns[1] = columns[1].reshape(count, -1)
                if fine:
                    columns.insert(0, labels[:, None] // 5)
                content = np.concatenate(columns, 1).tobytes()
                add(archive, f"{top}/{member}", content)
            found[split] = tuple(map(np.concatenate, zip(*parts, strict=True)))
        for name, number in names.items():
            lines = "".join(f"class{index}\n" for index in range(number))
            add(archive, f"{top}/{name}", (lines + "\n").encode())
    return found


def svhn(folder, count=20):
    """Three MATLAB files, in which the digit 0 is 10."""
    found = {}
    for split in ("train", "test", "extra"):
        images, labels = pixels(len(split), count, 32, 32, 3), np.arange(count) % 10
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        data = {"X": images.transpose(1, 2, 3, 0), "y": stored}
        scipy.io.savemat(folder / f"{split}_32x32.mat", data, do_compression=True)
        found[split] = images, labels
    return found


def imagenette(folder, count=4):
    """``imagenette2.tgz``; returns the JPEG files and their labels by split."""
    found = {}
    with tarfile.open(folder / "imagenette2.tgz", "w:gz") as archive:
        add(archive, "imagenette2/.DS_Store", b"no image")
        for split, part in (("train", "train"), ("validation", "val")):
            images, labels = [], []
            for label, synset in enumerate(SYNSETS):
                for number in range(count):
                    seed = 100 * label + number + 10 * len(part)
                    image = jpeg(pixels(seed, 20 + number, 24, 3))
                    name = f"{synset}_{part}_{number}.JPEG"
                    add(archive, f"imagenette2/{part}/{synset}/{name}", image)
                    images.append(image)
                    labels.append(label)
            found[split] = images, np.array(labels)
    return found


def imagenet_resized(folder, count=60):
    """Zips of npz files with labels from 1."""
    found = {}
    for split, part, members in (
        ("train", "train", ["train_data_batch_1", "train_data_batch_2"]),
        ("validation", "val", ["val_data"]),
    ):
        parts = []
        with zipfile.ZipFile(folder / f"Imagenet32_{part}_npz.zip", "w") as archive:
            for number, member in enumerate(members):
                images = pixels(number + 10 * len(part), count, 32, 32, 3)
                labels = np.arange(count) * 7 % 1000
                flat = images.transpose(0, 3, 1, 2).reshape(count, -1)
                file = io.BytesIO()
                np.savez(file, data=flat, labels=labels + 1, mean=flat.mean(0))
                archive.writestr(f"{member}.npz", file.getvalue())
                parts.append((images, labels))
        found[split] = tuple(map(np.concatenate, zip(*parts, strict=True)))
    return found


def downsampled_imagenet(folder, count=120):
    """Tars of PNG files, without labels."""
    found = {}
    for split, part in (("train", "train"), ("validation", "valid")):
        images = pixels(len(part), count, 32, 32, 3)
        with tarfile.open(folder / f"{part}_32x32.tar", "w") as archive:
            for number, image in enumerate(images):
                name = f"{part}_32x32/{number:05d}.png"
                add(archive, name, jpeg(image, kind="png"))
        found[split] = images, np.zeros(count, int)
    return found


def imagenet2012(folder, labels_of, count=50):
    """The tar of tars and the tar of validation images.

    ``labels_of`` are those that the official list gives to the first validation
    images. Two training images, of one colour, are those published in CMYK and as PNG.
    """
    found = {}
    synsets = ("n01440764", "n01739381", "n02105855")
    images, labels = {}, {}
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for synset in synsets:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as part:
                for number in range(count):
                    name = f"{synset}_{number}.JPEG"
                    image = pixels(number, 12 + number % 5, 14, 3)
                    content = jpeg(image)
                    plain = np.broadcast_to(np.uint8([200, 120, 40]), (16, 16, 3))
                    if (synset, number) == ("n01739381", 0):
                        name, content = "n01739381_1309.JPEG", jpeg(plain, "CMYK")
                    if (synset, number) == ("n02105855", 0):
                        name, content = "n02105855_2933.JPEG", jpeg(plain, kind="png")
                    add(part, name, content)
                    images[name], labels[name] = content, synset
            add(archive, f"{synset}.tar", inner.getvalue())
    found["train"] = images, labels
    images = {
        f"ILSVRC2012_val_{number + 1:08d}.JPEG": jpeg(pixels(number, 10, 11, 3))
        for number in range(len(labels_of))
    }
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for name in sorted(images, reverse=True):  # not in the order of their names
            add(archive, name, images[name])
    found["validation"] = images, dict(zip(sorted(images), labels_of, strict=True))
    return found
