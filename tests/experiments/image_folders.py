"""Folders of images in the published layouts, and what is read from them."""

import PIL.Image

from experiments.data import folders

MHIST_HEADER = (
    "Image Name,Majority Vote Label,"
    "Number of Annotators who Selected SSA (Out of 7),Partition"
)

ROWS = (
    "a/1.png,cat,train",
    "a/2.png,horse,train",
    "b/1.png,cat,train",
    "b/2.png,horse,validation",
    "c.png,cat,test",
)


def picture(path, value, size=(4, 4), mode="RGB"):
    """An image of one colour, its value in red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 255)
    PIL.Image.new(mode, size[::-1], colour).save(path)


def stored(source):
    """The files of a source, whether or not it keeps what it read."""
    return getattr(source, "_source", source)


def reds(source):
    return [
        int(source[index]["image"][..., 0].mean().round())
        for index in range(len(source))
    ]


def tiny_imagenet(root, classes=("n02", "n01"), each=10):
    (root / "val").mkdir(parents=True)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in classes))
    lines = []
    for number, wnid in enumerate(classes):
        boxes = []
        for index in range(each):
            name = f"{wnid}_{index}.JPEG"
            mode = "L" if index == 3 else "RGB"  # some are grey in the published set
            picture(
                root / "train" / wnid / "images" / name,
                100 * number + index,
                (64, 64),
                mode,
            )
            boxes.append(f"{name}\t0\t10\t62\t60\n")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
        picture(root / "val" / "images" / f"val_{number}.JPEG", 50 + number, (64, 64))
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def mhist(root, train=20, test=4):
    lines = [MHIST_HEADER]
    for index in range(train + test):
        name = f"MHIST_{index:03}.png"
        picture(root / "images" / name, 5 * index, (224, 224))
        label = ("HP", "SSA")[index % 2]
        part = "train" if index < train else "test"
        lines.append(f"{name},{label},{index % 8},{part}")
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")


def adp(root, count=10, names=folders.ADP_CLASSES):
    # the published table has the wider types, too
    lines = [",".join(["Patch Names", "E", *names])]
    for index in range(count):
        name = f"{index:03}.png_crop_{index}.png"
        picture(root / "img_res_1um_bicubic" / name, 20 * index, (272, 272))
        bits = [str(index >> place & 1) for place in range(len(names))]
        lines.append(",".join([name, "1", *bits]))
    (root / "ADP_EncodedLabels_Release1_Flat.csv").write_text("\n".join(lines) + "\n")


def labelled(root, rows, header="file,label,split"):
    for row in rows:
        name, label = row.split(",")[:2]
        picture(root / name, 10 * len(label))
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
