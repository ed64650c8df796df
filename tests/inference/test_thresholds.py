import numpy as np
import pytest

from bonepipe.inference import thresholds
from bonepipe.inference.crossfit import Split
from bonepipe.inference.thresholds import ThresholdChoice, ThresholdSpec, choose_thresholds
from bonepipe.labels.histogram import FLOOR, FLOOR_BIN


def alone(folds):
    """A split in which each image is of another patient."""
    return Split(np.asarray(folds), np.arange(len(folds)))


def curves_around(peaks, rng, images=40, noise=0.02):
    """Dice curves `[N, C, 256]`: parabolas with a peak a class, raised and shifted a little from image to image."""
    k = np.arange(256)
    shift = rng.normal(0, 5, (images, len(peaks), 1))
    height = 0.95 + rng.normal(0, noise, (images, len(peaks), 1))
    return np.clip(height - ((k - np.array(peaks)[None, :, None] - shift) / 300) ** 2, 0, 1)


def slow_best(curves, label, images):
    means = [sum(curves[i, label, k] for i in images) / len(images) for k in range(256)]
    top = max(means[FLOOR_BIN:])
    return min((k for k in range(FLOOR_BIN, 256) if means[k] >= top - 1e-12), key=lambda k: (abs(k - 128), k))


def dependence(folds):
    """The factor of Nadeau and Bengio for folds of these sizes."""
    sizes = [list(folds).count(fold) for fold in set(folds)]
    return (1 + sum(size / (len(folds) - size) for size in sizes)) ** 0.5


def slow_choice(curves, folds, margin):
    """The docstring of `choose_thresholds`, image by image."""
    count, classes = curves.shape[:2]
    chosen, gains, errors = [], [], []
    for label in range(classes):
        differences = []
        for image in range(count):
            others = [i for i in range(count) if folds[i] != folds[image]]
            k = slow_best(curves, label, others) if others else 128
            differences.append(curves[image, label, k] - curves[image, label, 128])
        gain = sum(differences) / count
        deviation = (sum((d - gain) ** 2 for d in differences) / (count - 1)) ** 0.5
        best = slow_best(curves, label, range(count))
        errors.append(dependence(folds) * deviation / count**0.5)
        gains.append(gain)
        chosen.append(best / 256 if gain > 0 and gain > margin * errors[-1] else 0.5)
    return chosen, gains, errors


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_choose_equals_a_slow_reference(seed, margin):
    rng = np.random.default_rng(seed)
    curves = curves_around([128, 100, 180, 125, 60], rng, images=17)
    curves[:, 4] = np.round(curves[:, 4], 2)  # many equal values
    folds = rng.integers(0, 3, 17)
    choice = choose_thresholds(curves, alone(folds), margin)
    expected, gains, errors = slow_choice(curves, folds, margin)
    np.testing.assert_allclose(choice.thresholds, expected)
    np.testing.assert_allclose(choice.gain, gains, atol=1e-12)
    np.testing.assert_allclose(choice.error, errors, atol=1e-12)
    np.testing.assert_array_equal(choice.kept, choice.thresholds != 0.5)
    np.testing.assert_array_equal(choice.dice_at_half, curves[:, :, 128])
    np.testing.assert_allclose((choice.dice - choice.dice_at_half).mean(0), np.where(choice.kept, gains, 0), atol=1e-12)


def test_a_real_gain_is_kept():
    curves = curves_around([60, 200, 128], np.random.default_rng(1), images=60)
    choice = choose_thresholds(curves, alone(np.arange(60) % 5), 1.0)
    assert choice.kept[:2].all()
    assert choice.thresholds[0] == pytest.approx(60 / 256, abs=6 / 256)
    assert choice.thresholds[1] == pytest.approx(200 / 256, abs=6 / 256)
    assert choice.dice.mean(0)[0] > choice.dice_at_half.mean(0)[0] + 0.03


def test_noise_keeps_one_half():
    rng = np.random.default_rng(2)
    kept, gains, promises = [], [], []
    for _ in range(20):
        curves = 0.9 + rng.normal(0, 0.02, (30, 10, 256))
        choice = choose_thresholds(curves, alone(np.arange(30) % 5), 2.0)
        kept.extend(choice.kept)
        gains.extend(choice.gain)
        promises.extend(curves.mean(0).max(1) - curves.mean(0)[:, 128])
    assert np.mean(kept) < 0.1
    assert abs(np.mean(gains)) < 0.001
    assert np.mean(promises) > 0.009  # what choosing on the very images that are scored would have promised


def test_one_fold_keeps_one_half():
    choice = choose_thresholds(curves_around([60, 200], np.random.default_rng(3)), alone(np.zeros(40, int)), 0.0)
    assert choice.thresholds.tolist() == [0.5, 0.5]
    assert not choice.kept.any()
    np.testing.assert_array_equal(choice.gain, 0)
    np.testing.assert_array_equal(choice.dice, choice.dice_at_half)


def test_one_image_keeps_one_half():
    choice = choose_thresholds(curves_around([60], np.random.default_rng(3), images=1), alone(np.zeros(1, int)), 1.0)
    assert choice.thresholds.tolist() == [0.5]
    assert np.isfinite(choice.error).all()


def test_a_class_that_is_always_right_keeps_one_half():
    choice = choose_thresholds(np.ones((12, 1, 256)), alone(np.arange(12) % 3), 0.0)
    assert choice.thresholds.tolist() == [0.5]


def test_a_threshold_below_the_floor_is_never_chosen():
    """Earlier versions' histograms tell of such thresholds too."""
    curves = np.full((12, 1, 256), 0.1)
    curves[:, :, 0], curves[:, :, FLOOR_BIN - 1], curves[:, :, FLOOR_BIN] = 1.0, 0.9, 0.6
    assert choose_thresholds(curves, alone(np.arange(12) % 3), 1.0).thresholds.tolist() == [FLOOR]


@pytest.mark.parametrize("margin", [-0.1, float("nan")])
def test_impossible_margins_are_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        ThresholdSpec(margin=margin)


def two_strata(rng, rotated, straight, images=120):
    """Curves whose peaks differ between strata, folds, and the stratum of each image."""
    labels = np.where(rng.random(images) < 0.4, "rotated", "straight")
    bent, curves = labels == "rotated", np.zeros((images, len(rotated), 256))
    curves[bent] = curves_around(rotated, rng, bent.sum())
    curves[~bent] = curves_around(straight, rng, (~bent).sum())
    return curves, rng.integers(0, 5, images), labels.tolist()


def slow_stratum(curves, folds, common, margin):
    """What a stratum's images say, image by image: thresholds `[C]` and what they gain over the common ones."""
    count, classes = curves.shape[:2]
    chosen, gains = [], []
    for label in range(classes):
        differences = []
        for image in range(count):
            others = [i for i in range(count) if folds[i] != folds[image]]
            k = slow_best(curves, label, others)
            differences.append(curves[image, label, k] - common.dice[image, label])
        gains.append(sum(differences) / count)
        error = dependence(folds) * (sum((d - gains[-1]) ** 2 for d in differences) / (count - 1)) ** 0.5 / count**0.5
        kept = gains[-1] > 0 and gains[-1] > margin * error
        chosen.append(slow_best(curves, label, range(count)) / 256 if kept else common.thresholds[label])
    return chosen, gains


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_thresholds_by_stratum_equal_a_slow_reference(seed, margin):
    rng = np.random.default_rng(seed)
    curves, folds, labels = two_strata(rng, [60, 128, 120, 200], [60, 128, 128, 100], images=40)
    common = choose_thresholds(curves, alone(folds), margin)
    found = thresholds.choose_thresholds_by_stratum(curves, alone(folds), labels, common, margin)
    assert list(found) == ["rotated", "straight"]
    for stratum, choice in found.items():
        here = [number for number, label in enumerate(labels) if label == stratum]
        part = ThresholdChoice(
            common.thresholds, common.kept, common.gain, common.error, common.dice[here], common.dice[here]
        )
        expected, gains = slow_stratum(curves[here], folds[here], part, margin)
        np.testing.assert_allclose(choice.thresholds, expected)
        np.testing.assert_allclose(choice.gain, gains, atol=1e-12)
        np.testing.assert_array_equal(choice.kept, choice.thresholds != common.thresholds)
    dice = thresholds.dice_by_stratum(found, labels)
    for stratum, choice in found.items():
        own = dice[[label == stratum for label in labels]] - common.dice[[label == stratum for label in labels]]
        np.testing.assert_allclose(own.mean(0), np.where(choice.kept, choice.gain, 0), atol=1e-12)
    assert thresholds.gain_by_stratum(found) == pytest.approx((dice - common.dice).mean())


def test_a_class_whose_strata_peak_elsewhere_gets_two_thresholds():
    curves, folds, labels = two_strata(np.random.default_rng(5), [60, 128], [180, 128])
    common = choose_thresholds(curves, alone(folds), 2.0)
    found = thresholds.choose_thresholds_by_stratum(curves, alone(folds), labels, common, 2.0)
    assert found["rotated"].thresholds[0] == pytest.approx(60 / 256, abs=8 / 256)
    assert found["straight"].thresholds[0] == pytest.approx(180 / 256, abs=8 / 256)
    assert thresholds.gain_by_stratum(found) > 0.01


def test_strata_that_do_not_differ_keep_the_common_threshold():
    kept = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        curves = 0.9 + rng.normal(0, 0.02, (60, 10, 256))
        folds, labels = np.arange(60) % 5, np.where(rng.random(60) < 0.4, "rotated", "straight").tolist()
        found = thresholds.choose_thresholds_by_stratum(
            curves, alone(folds), labels, choose_thresholds(curves, alone(folds), 2.0), 2.0
        )
        kept.extend(choice.kept for choice in found.values())
    assert np.mean(kept) < 0.1


def test_a_stratum_of_a_few_images_keeps_the_common_threshold():
    curves, folds, labels = two_strata(np.random.default_rng(6), [60], [180])
    enough = [number for number, label in enumerate(labels) if label == "rotated"]
    for count, kept in ((thresholds.LEAST - 1, False), (len(enough), True)):
        rows = [*enough[:count], *(n for n, label in enumerate(labels) if label == "straight")]
        common = choose_thresholds(curves[rows], alone(folds[rows]), 1.0)
        own = thresholds.choose_thresholds_by_stratum(
            curves[rows], alone(folds[rows]), [labels[n] for n in rows], common, 1.0
        )
        assert own["rotated"].kept.tolist() == [kept]
        assert (own["rotated"].thresholds != common.thresholds).tolist() == [kept]
