"""What a good competitor writes in an afternoon: one smp network, BCE + Dice, one cycle, mild affine, threshold 0.5.

Nothing here knows this pipeline. `python script.py SET.json OUT.csv --images 2000 --lr 1e-3 --seed 0`; SET.json has
`root`, `classes`, `size` and the images of `train` and `test`. Prints one JSON object of what it took.
"""

import argparse
import json
import time
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader, Dataset


def read_image(path, size):
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH).astype(np.float32)
    image = (image - image.mean()) / image.std()
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), image.shape


def read_masks(path, classes, shape, size):
    masks = np.zeros((len(classes), *shape), np.uint8)
    for entry in json.loads(Path(path).read_text())["annotations"]:
        cv2.fillPoly(masks[classes.index(entry["label"])], [np.array(entry["points"], np.int32)], 1)
    return np.stack([cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA) for mask in masks], -1)


class Radiographs(Dataset):
    def __init__(self, paths, about, transform):
        self.items, self.transform = [], transform
        for path in paths:
            image, shape = read_image(path, about["size"])
            label = Path(str(path).replace("/DCM/", "/outputs_json/")).with_suffix(".json")
            self.items.append((image, read_masks(label, about["classes"], shape, about["size"])))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        changed = self.transform(image=self.items[index][0], mask=self.items[index][1])
        return torch.from_numpy(changed["image"])[None], torch.from_numpy(changed["mask"].transpose(2, 0, 1))


def train(about, images, lr, batch, seed):
    torch.manual_seed(seed)
    mild = A.Compose([A.Affine(rotate=(-10, 10), scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), p=0.7)], seed=seed)
    data = DataLoader(Radiographs(about["train"], about, mild), batch, shuffle=True, drop_last=True)
    model = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=len(about["classes"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    steps = max(2, images // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    dice, start, done = smp.losses.DiceLoss("multilabel"), time.perf_counter(), 0
    while done < steps:
        for pixels, masks in data:
            logits = model(pixels)
            target = masks.float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target) + dice(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                break
    return model.eval(), (time.perf_counter() - start) / (steps * batch)


def encode(mask):
    changes = np.flatnonzero(np.diff(np.pad(mask.ravel().astype(np.int8), 1)))
    return " ".join(map(str, np.stack([changes[::2] + 1, changes[1::2] - changes[::2]], 1).ravel()))


@torch.inference_mode()
def predict(model, about, out):
    rows = []
    for path in about["test"]:
        image, shape = read_image(path, about["size"])
        maps = model(torch.from_numpy(image)[None, None]).sigmoid()
        maps = torch.nn.functional.interpolate(maps, shape, mode="bilinear")[0].numpy() > 0.5
        rows += [(Path(path).name, label, encode(mask)) for label, mask in zip(about["classes"], maps, strict=True)]
    pd.DataFrame(rows, columns=["image_name", "class", "rle"]).to_csv(out, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("about", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    about = json.loads(given.about.read_text())
    model, pace = train(about, given.images, given.lr, given.batch, given.seed)
    start = time.perf_counter()
    predict(model, about, given.out)
    print(json.dumps({"seconds_an_image": pace, "prediction": time.perf_counter() - start}))
