"""Networks written here learn four radiographs by heart: every path from image to logits carries gradients."""

import time

import pytest
import torch

from bonepipe import config as configs
from bonepipe.data.catalog import train_images
from bonepipe.data.store import prepare
from bonepipe.labels import bitplane
from bonepipe.models.fc_densenet import fc_densenet
from bonepipe.models.hrnet import hrnet
from bonepipe.models.outputs import Outputs
from bonepipe.models.unet3plus import unet3plus
from bonepipe.models.unetplusplus import unetplusplus
from bonepipe.training.losses import DiceFocal


@pytest.fixture(scope="module")
def radiographs(phantom_root):
    """Images [4, 1, 64, 64] and targets [4, 29, 64, 64]."""
    spec = configs.build(configs.compose([f"data.root={phantom_root}", "data.size=64", "~experiment"]), "data")
    rows = [prepare(image, spec)[:2] for image in train_images(spec)[:4]]
    images = torch.stack([torch.from_numpy(grey) for grey, _ in rows])
    planes = torch.stack([torch.from_numpy(planes) for _, planes in rows])
    targets = bitplane.unpack_torch(planes, len(spec.classes)).float()
    return (images[:, None] / 255 - spec.mean) / spec.std, targets


def dice(model, images, targets):
    """Mean over images and classes."""
    with torch.inference_mode():
        masks = model.eval()(images) > 0
    overlap = (masks & (targets > 0)).sum((2, 3))
    total = (masks.sum((2, 3)) + targets.sum((2, 3))).clamp(min=1)
    return (2 * overlap / total).mean().item()


def learn(model, images, targets, steps, lr):
    """Train on all four at once, side outputs included."""
    loss, optimizer = DiceFocal(), torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    model.train()
    for _ in range(steps):
        answer = model(images)
        maps = answer.maps if isinstance(answer, Outputs) else (answer,)
        optimizer.zero_grad()
        sum(loss(logits, targets) for logits in maps).backward()
        optimizer.step()
        schedule.step()


class Free(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.z=torch.nn.Parameter(torch.zeros(4,29,16,16)-3)
    def forward(self,x):
        return torch.nn.functional.interpolate(self.z,scale_factor=4,mode="bilinear")

NETWORKS = {
    "unet3plus": (lambda: unet3plus(29, width=12, deep_supervision=False), 60, 1e-2),
    "fc_densenet": (lambda: fc_densenet(29, layers=(3, 3, 3, 3), growth=12, first=24, dropout=0.0), 60, 1e-2),
    "hrnet": (lambda: hrnet(29, variant="hrnet_w18_small", encoder_weights=None), 200, 1e-2),
    "free": (Free, 100, 1.),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_four_radiographs_by_heart(radiographs, name):
    make, steps, lr = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    start = time.process_time()
    learn(model, *radiographs, steps, lr)
    value = dice(model, *radiographs)
    print(f"\n{name}: dice {value:.3f} in {time.process_time() - start:.1f} s")
    assert value > 0.9
