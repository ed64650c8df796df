"""What is shown, read as the dataset says."""

from dataclasses import replace

import pytest

from bonepipe.config import build, compose
from bonepipe.data.catalog import read_catalog
from bonepipe.data.limits import Limits
from bonepipe.errors import BonepipeError
from bonepipe.report.view.gallery import Gallery


@pytest.mark.parametrize(("limit", "show"), [("outlines", Gallery.truth), ("pixels", Gallery.shape)])
def test_files_are_read_within_the_limits_of_the_dataset(chest_root, limit, show):
    spec = build(compose(["data=chest", "~experiment", f"data.root={chest_root}"], uses=["data"]), "data")
    assert show(Gallery(spec, read_catalog(spec)), 0)
    limited = replace(spec, limits=Limits(**{limit: 1}))
    with pytest.raises(BonepipeError, match=rf"data\.limits\.{limit}=1 is the most"):
        show(Gallery(limited, read_catalog(limited)), 0)
