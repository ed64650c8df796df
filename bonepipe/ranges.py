"""Types of settings that say which numbers make sense; not one of them takes NaN or infinity.

A constructor's signature is the schema of its group in a config, see `bonepipe.config`: what lies outside its
parameters' ranges is refused by the name of its key before anything runs.
"""

from typing import Annotated

from annotated_types import Interval

Count = Annotated[int, Interval(ge=1, le=10**6)]
Number = Annotated[int, Interval(ge=0, le=10**6)]
Processes = Annotated[int, Interval(ge=0, le=1024)]
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]
Byte = Annotated[int, Interval(ge=0, le=255)]
Pixels = Annotated[int, Interval(ge=1, le=2**15)]  # a side of an image or of a window

Share = Annotated[float, Interval(ge=0, le=1)]
Portion = Annotated[float, Interval(gt=0, le=1)]  # some of it, or all
Rest = Annotated[float, Interval(ge=0, lt=1)]  # never all of it
Inside = Annotated[float, Interval(gt=0, lt=1)]
Amount = Annotated[float, Interval(ge=0, le=1e9)]
Positive = Annotated[float, Interval(gt=0, le=1e9)]
