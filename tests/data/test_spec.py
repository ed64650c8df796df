import pytest

from bonepipe.data.spec import DataSpec, External

CHEST = {"name": "chest", "root": "x", "classes": ("left", "right", "heart"), "size": 64}


def test_shape_of_a_square_and_of_a_rectangle():
    assert DataSpec(**CHEST).shape == (64, 64)
    assert DataSpec(**CHEST | {"size": (64, 96)}).shape == (64, 96)


def test_mirrored_order_swaps_the_pairs():
    spec = DataSpec(**CHEST, swaps={"horizontal": [("left", "right")]})
    assert spec.mirrored_order("horizontal") == (1, 0, 2)
    assert spec.mirrored_order("vertical") == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": ()}, "data.classes"),
        ({"classes": ("a", "a")}, "data.classes"),
        ({"classes": ("a", "")}, "data.classes: ''"),
        ({"classes": ("a", "b\n")}, r"data.classes: 'b\\n'"),
        ({"classes": ("a", "\udcff")}, "data.classes"),
        ({"classes": ("a", "손" * 70)}, "data.classes: '손+': a name is"),
        ({"classes": ("a/b", "a_b")}, "data.classes: two names differ by / and _"),
        ({"others": ("heart",)}, "data.others name none of them"),
        ({"size": 16}, "data.size=16"),
        ({"size": (64, 31)}, "data.size"),
        ({"supersample": 0}, "data.supersample=0"),
        ({"supersample": 5}, "from 1 to 4"),
        ({"palette": ((1, 2, 3),)}, "data.palette has 1 colours for 3 classes"),
        ({"patient": "^[^/]+/"}, "data.patient"),
        ({"swaps": {"horizontal": [("left", "lung")]}}, "data.swaps.horizontal: unknown class 'lung'"),
        ({"swaps": {"sideways": []}}, "data.swaps.sideways"),
        (
            {"swaps": {"horizontal": [("left", "right"), ("left", "heart")]}},
            "data.swaps.horizontal: left stands in it twice",
        ),
    ],
)
def test_nonsense_is_refused(change, field):
    with pytest.raises(ValueError, match=field):
        DataSpec(**CHEST | change)


def test_external_datasets_need_places_and_prefixes_of_their_own():
    settings = {"name": "hand", "root": "data/a", "classes": ("Radius",), "size": 64}
    more, other = External(root="data/b", prefix="b"), External(root="data/c", prefix="c")
    spec = DataSpec(**settings, external=(more, other))
    assert spec.of(other) == DataSpec(**{**settings, "root": "data/c"})
    for external, reason in (
        ((more, External(root="data/c", prefix="b")), "prefix of its own"),
        ((more, External(root="data/b/", prefix="c")), "root of its own"),
        ((External(root="data/a"),), "root of its own"),
    ):
        with pytest.raises(ValueError, match=rf"data\.external: .*{reason}"):
            DataSpec(**settings, external=external)
    with pytest.raises(ValueError, match="needs a prefix"):
        External(root="data/b", prefix="")


def test_classes_that_an_external_dataset_annotates_are_checked_by_name():
    settings = {"name": "hand", "root": "data/a", "classes": ("Radius", "Ulna"), "size": 64}
    assert DataSpec(**settings, external=(External(root="b", classes=("Ulna",)),)).external[0].classes == ("Ulna",)
    with pytest.raises(ValueError, match=r"data\.external: b: classes: unknown class 'Ulnar'; did you mean 'Ulna'\?"):
        DataSpec(**settings, external=(External(root="b", classes=("Radius", "Ulnar")),))
    with pytest.raises(ValueError, match=r"unknown class 'xyz'; data\.classes has Radius, Ulna"):
        DataSpec(**settings, external=(External(root="b", classes=("xyz",)),))
    with pytest.raises(ValueError, match=r"data\.external: b: classes is empty"):
        External(root="b", classes=())


def test_an_empty_pattern_of_negatives_is_refused_and_external_data_has_its_own():
    settings = {"name": "x", "root": "a", "classes": ("Ulna",), "size": 64, "negatives": ("a.png",)}
    with pytest.raises(ValueError, match=r"data\.negatives: a pattern is empty"):
        DataSpec(**{**settings, "negatives": ("a.png", " ")})
    with pytest.raises(ValueError, match=r"data\.external: b: negatives: a pattern is empty"):
        External(root="b", negatives=("",))
    external = External(root="b", negatives=("ID001/*",))
    assert DataSpec(**settings, external=(external,)).of(external).negatives == ("ID001/*",)
