"""Names and order of the 29 bones, as the competition writes them."""

CARPALS = ("Trapezium", "Trapezoid", "Capitate", "Hamate", "Scaphoid", "Lunate", "Triquetrum", "Pisiform")
CLASSES = (*(f"finger-{number}" for number in range(1, 20)), *CARPALS, "Radius", "Ulna")

# Labels of each ray from metacarpal to fingertip, thumb first.
RAYS = (
    ("finger-3", "finger-2", "finger-1"),
    *(tuple(f"finger-{base - joint}" for joint in range(4)) for base in (7, 11, 15, 19)),
)
