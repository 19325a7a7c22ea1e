from __future__ import annotations

import pytest

from streamdeblur.errors import ModelError
from streamdeblur.spec import FORMAT_VERSION, ModelSpec

FULL = ModelSpec(
    name="fast",
    precision="fp16",
    multiple_of=8,
    receptive_field=93,
    generator={"width": 32, "norm": None},
    training={"recipe": "best", "steps": 200_000},
)


@pytest.mark.parametrize("spec", [ModelSpec(name="bare"), FULL])
def test_a_spec_survives_the_way_through_metadata(spec: ModelSpec) -> None:
    metadata = spec.to_metadata()
    assert all(key.startswith("streamdeblur.") for key in metadata)
    assert all(isinstance(value, str) for value in metadata.values())
    assert ModelSpec.from_metadata(metadata) == spec


def test_a_file_of_someone_else_has_no_spec() -> None:
    assert ModelSpec.from_metadata({}) is None
    assert ModelSpec.from_metadata({"author": "someone", "name": "other"}) is None


def test_keys_that_this_version_does_not_know_are_ignored() -> None:
    metadata = {**FULL.to_metadata(), "streamdeblur.future": "1", "author": "not JSON"}
    assert ModelSpec.from_metadata(metadata) == FULL


def test_damaged_metadata_is_an_error() -> None:
    with pytest.raises(ModelError, match="damaged"):
        ModelSpec.from_metadata({"streamdeblur.name": "fast"})  # no JSON without its quotes


def test_a_newer_format_asks_for_an_upgrade() -> None:
    newer = ModelSpec(name="fast", format_version=FORMAT_VERSION + 1).to_metadata()
    with pytest.raises(ModelError, match="upgrade"):
        ModelSpec.from_metadata(newer)
