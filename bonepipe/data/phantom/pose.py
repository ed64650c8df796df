"""How a hand lies on the detector, and its bones put there: all in millimetres from the image's top left corner."""

from dataclasses import dataclass, replace

import numpy as np

from bonepipe.data.phantom.anatomy import METACARPAL_ANGLES, METACARPAL_BASES
from bonepipe.data.phantom.classes import CARPALS, RAYS
from bonepipe.data.phantom.curves import Points, closed_spline
from bonepipe.data.phantom.person import Person

FIELD = 272.0  # mm along each side of the image
# The capitate's head, about which the hand bends (Y. Youm et al., "Kinematics of the wrist", J. Bone Joint Surg. 1978).
WRIST_CENTRE = np.array([0.0, 6.0])
PROXIMAL_ROW = ("Scaphoid", "Lunate", "Triquetrum", "Pisiform")
PROXIMAL_ROW_SHARE = 0.55  # of the bend that the proximal row follows
UNLABELLED = ("sesamoid-1", "sesamoid-2", "hamate-hook")  # in the picture, but no class of their own


@dataclass(frozen=True)
class Pose:
    """Angles in degrees, positive towards the little finger; lengths in mm.

    `fingers` [5, 3] are the bends at the joints of each ray, `reach` [5, 3] the foreshortening of its phalanges.
    `field` is the collimated box: left, top, right, bottom.
    """

    left: bool
    bend: float
    forearm: float
    fingers: Points
    reach: Points
    top: float
    shift: float
    margins: Points


@dataclass(frozen=True)
class Bone:
    """A placed bone: `outline` [N, 2] and the ends of its axis `start`, `end` [2], in mm; `tubular`: with marrow."""

    label: str
    outline: Points
    start: Points
    end: Points
    tubular: bool


@dataclass(frozen=True)
class Hand:
    """Everything visible of one hand. `box` [2, 2] is the collimated field's low and high corner, in mm."""

    bones: dict[str, Bone]
    box: Points
    left: bool


def draw_pose(left: bool, rotated: bool, rng: np.random.Generator) -> Pose:
    """Draw a pose for one hand; `rotated` bends the wrist sideways by 20 to 35 degrees, mostly towards the ulna."""
    bend = rng.normal(0, 3.0)
    ulnar = bool(rng.random() < 0.75)
    sideways = rng.uniform(22, 35) if ulnar else -rng.uniform(20, 27)
    bend = float(sideways if rotated else np.clip(bend, -8, 8))
    fan = rng.normal(0, 1.8)
    bends = np.array([[8, 2, 0], [1, 0, 0], [0.5, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float64)
    bends[:, 0] += fan * np.array([-1, -1, -0.2, 0.7, 1.6]) + rng.normal(0, [5, 1.2, 1.2, 1.2, 1.5])
    bends[:, 1:] += rng.normal(0, 1.2, (5, 2))
    bends[4, 1:] -= rng.uniform(0, 3, 2)
    return Pose(
        left=left,
        bend=bend,
        forearm=float(-bend * rng.uniform(0.2, 0.5) + rng.normal(0, 2.0)),
        fingers=bends,
        reach=1 - np.abs(rng.normal(0, 0.025, (5, 3))),
        top=float(rng.uniform(14, 24)),
        shift=float(rng.normal(0, 5)),
        margins=rng.uniform([12, 6, 12, -8], [42, 14, 42, 10]),
    )


def place_hand(person: Person, pose: Pose) -> Hand:
    """Put every bone of `person` where `pose` has it."""
    bones = {bone.label: bone for bone in (*_place_rays(person, pose), *_place_wrist(person, pose))}
    bones |= {bone.label: bone for bone in _unlabelled(bones, person.scale)}
    moved = [_onto_detector(bone, pose) for bone in bones.values()]
    distal = np.vstack([bone.outline for bone in moved if bone.label not in ("Radius", "Ulna")])
    middle = (distal[:, 0].min() + distal[:, 0].max()) / 2
    offset = np.array([FIELD / 2 - middle + pose.shift, pose.top - distal[:, 1].min()])
    box = _collimate(distal + offset, pose)
    placed = (replace(b, outline=b.outline + offset, start=b.start + offset, end=b.end + offset) for b in moved)
    return Hand({bone.label: bone for bone in placed}, box, pose.left)


def lean(points: Points, degrees: float, centre: Points | None = None) -> Points:
    """Turn `points` [..., 2] (y up) so that what pointed up leans to +x by `degrees`."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix if centre is None else (points - centre) @ matrix + centre


def _direction(degrees: float) -> Points:
    return lean(np.array([0.0, 1.0]), degrees)


def _place_rays(person: Person, pose: Pose) -> list[Bone]:
    """Metacarpals and phalanges, each turned about the head of the bone before it."""
    bones = []
    for ray, base, angle, bends, reach in zip(
        RAYS, METACARPAL_BASES, METACARPAL_ANGLES, pose.fingers, pose.reach, strict=True
    ):
        start = lean(np.array(base) * person.scale, pose.bend, WRIST_CENTRE * person.scale)
        heading = angle + pose.bend
        for joint, label in enumerate(ray):
            stretch = np.array([1.0, reach[joint - 1] if joint else 1.0])
            tube, outline = person.tubes[label], person.shapes[label] * stretch
            length = tube.length * stretch[1]
            end = start + _direction(heading) * length
            bones.append(Bone(label, lean(outline, heading) + start, start, end, True))
            centre = end - _direction(heading) * tube.head / 2
            heading += bends[joint] if joint < len(bends) else 0.0
            start = centre + _direction(heading) * (tube.head / 2 + 1.1 * person.scale)
    return bones


def _place_wrist(person: Person, pose: Pose) -> list[Bone]:
    """Carpal bones, which follow the hand's bend wholly or in part, and the forearm, which stays."""
    centre = WRIST_CENTRE * person.scale
    bones = []
    for label in CARPALS:
        share = PROXIMAL_ROW_SHARE if label in PROXIMAL_ROW else 1.0
        outline = person.shapes[label]
        if label == "Scaphoid":
            outline = _tilt_scaphoid(outline, pose.bend)
        outline = lean(outline, pose.bend * share, centre)
        bones.append(Bone(label, outline, outline.mean(axis=0), outline.mean(axis=0), False))
    for label in ("Radius", "Ulna"):
        outline = person.shapes[label]
        middle = float(outline[outline[:, 1] < outline[:, 1].min() + 4, 0].mean())
        ends = np.array([[middle, outline[:, 1].min()], [outline[:, 0].mean(), outline[:, 1].max() - 6]])
        bones.append(Bone(label, outline, ends[0], ends[1], True))
    return bones


def _tilt_scaphoid(outline: Points, bend: float) -> Points:
    """Shorten the scaphoid, which tips forward as the hand bends to the thumb's side, or lengthen it."""
    axis = lean(np.array([0.0, 1.0]), -28.0)
    proximal = outline[np.argmin(outline @ axis)]
    along = (outline - proximal) @ axis
    return outline + np.outer(along, axis) * np.clip(bend * 0.005, -0.16, 0.1)


def _unlabelled(bones: dict[str, Bone], scale: float) -> list[Bone]:
    """Add ovals in front of other bones: two sesamoids at the thumb metacarpal's head, and the hook of the hamate."""
    metacarpal = bones[RAYS[0][0]]
    axis = (metacarpal.end - metacarpal.start) / np.hypot(*(metacarpal.end - metacarpal.start))
    across = np.array([axis[1], -axis[0]])
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    oval = closed_spline(np.stack([2.2 * np.cos(angle), 2.9 * np.sin(angle)], axis=1)) * scale
    sites = [metacarpal.end - axis * 5 * scale + across * offset * scale for offset in (5.5, -3.0)]
    sites.append(bones["Hamate"].start + np.array([1.5, 1.0]) * scale)
    return [Bone(label, oval + site, site, site, False) for label, site in zip(UNLABELLED, sites, strict=True)]


def _onto_detector(bone: Bone, pose: Pose) -> Bone:
    """Turn the whole arm, mirror a left hand, and let y run downwards."""
    flip = np.array([-1.0 if pose.left else 1.0, -1.0])
    outline, start, end = (lean(points, pose.forearm) * flip for points in (bone.outline, bone.start, bone.end))
    return Bone(bone.label, outline, start, end, bone.tubular)


def _collimate(distal: Points, pose: Pose) -> Points:
    """Choose the exposed box: margins vary, the forearm is cut near the image's lower edge."""
    left, top, right, bottom = pose.margins
    low = np.array([distal[:, 0].min() - left, distal[:, 1].min() - top])
    high = np.array([distal[:, 0].max() + right, FIELD - bottom])
    return np.stack([np.maximum(low, 0), np.minimum(high, FIELD)])
