"""Train nnU-Net on so many images and write its probabilities; run by the Python of nnU-Net's environment.

`python nnunet_runner.py FOLDER IMAGES SEED [--mirror]`, where FOLDER/raw has the dataset and nnU-Net's three folders
are named by the environment. It plans, preprocesses, trains and predicts; prints one JSON object with how fast it was.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

AUGMENTING = "nnUNet_n_proc_DA"  # how many processes do it; planning wants one at least


def prepare(preprocessed):
    extract_fingerprints([1], num_processes=1, check_dataset_integrity=True)
    plan_experiments([1])
    preprocess([1], configurations=("2d",), num_processes=(1,))
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    return plans, json.loads((preprocessed / "dataset.json").read_text())


def make_trainer(plans, dataset, mirror):
    kind = nnUNetTrainer if mirror else nnUNetTrainerNoMirroring
    plans = {**plans, "continue_training": False}  # the trainer takes it out
    trainer = kind(plans, "2d", "all", dataset, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def main():
    folder, images, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(seed)
    np.random.seed(seed)
    plans, dataset = prepare(folder / "preprocessed" / "Dataset001_versus")
    mirror = "--mirror" in sys.argv
    os.environ[AUGMENTING] = "0"  # in the training's own process, as on a machine of two cores
    trainer = make_trainer(plans, dataset, mirror)
    batch = trainer.configuration_manager.batch_size
    iterations = -(-images // batch)
    times = train(trainer, iterations)
    start = time.perf_counter()
    predict(trainer, dataset, folder, mirror)
    costs = {"images_per_second": batch / statistics.median(times[len(times) // 2 :])}
    print(json.dumps({"images": iterations * batch, **costs, "prediction": time.perf_counter() - start}))


def train(trainer, iterations):
    """Seconds that each iteration took, augmentation included."""
    loader, _ = trainer.get_dataloaders()
    trainer.num_epochs = iterations  # the rate falls with what it takes for epochs
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    trainer.network.train()
    times = []
    for number in range(iterations):
        start = time.perf_counter()
        trainer.lr_scheduler.step(number)
        trainer.train_step(next(loader))
        times.append(time.perf_counter() - start)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    return times


def predict(trainer, dataset, folder, mirror):
    predictor = nnUNetPredictor(
        use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    state = trainer.network.state_dict()
    axes = trainer.inference_allowed_mirroring_axes
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [state],
        dataset,
        type(trainer).__name__,
        axes,
    )
    out = folder / "probabilities"
    out.mkdir(exist_ok=True)
    for path in sorted((folder / "raw" / "Dataset001_versus" / "imagesTs").glob("*.png")):
        image, properties = NaturalImage2DIO().read_images([str(path)])
        _, maps = predictor.predict_single_npy_array(image, properties, None, None, True)
        np.save(out / f"{path.name.removesuffix('_0000.png')}.npy", maps[:, 0].astype(np.float16))


if __name__ == "__main__":
    main()
