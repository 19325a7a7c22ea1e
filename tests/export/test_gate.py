from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from export.gate import LIMIT, Gate
from streamdeblur.errors import ModelError

SHARP = np.random.default_rng(0).integers(40, 216, (12, 16, 3), dtype=np.uint8)


@pytest.fixture
def pairs(tmp_path):
    """Two pairs, whose blurred pictures are 8 levels too dark."""
    for kind, picture in (("blur", SHARP - 8), ("sharp", SHARP)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(picture).save(tmp_path / "pairs" / kind / name)
    return tmp_path / "pairs"


def brighter(levels):
    return lambda picture: picture + np.uint8(levels)


def test_the_share_of_the_gain_that_is_given_up(pairs):
    gate = Gate(pairs, brighter(7))  # 1 level is left of 8
    same = gate.judge(brighter(7))
    assert same.fp32 == pytest.approx(20 * np.log10(8))
    assert same.share == 0
    assert same.accepted
    worse = gate.judge(brighter(6))  # 2 levels are left: a third of the gain in dB
    assert worse.share == pytest.approx(1 / 3)
    assert not worse.accepted
    assert f"33.3% of the gain given up, {LIMIT:.0%} allowed" in str(worse)
    assert gate.judge(brighter(9)).share == pytest.approx(0)  # 1 level beyond


def test_facts_are_what_travels_in_the_file(pairs):
    facts = Gate(pairs, brighter(7)).judge(brighter(6)).facts("int8")
    assert facts == {
        "pairs": "pairs",
        "pictures": 2,
        "gain": {"fp32": 18.0618, "int8": 12.0412},
        "limit": LIMIT,
    }


def test_a_network_that_gains_nothing_has_nothing_to_keep(pairs):
    with pytest.raises(ModelError, match=r"gains \+0\.000 dB in fp32"):
        Gate(pairs, lambda picture: picture)


def test_a_pair_of_two_sizes_is_named(pairs):
    Image.fromarray(SHARP[:, 1:]).save(pairs / "sharp" / "b.png")
    with pytest.raises(ValueError, match=r"b\.png and its sharp twin differ in size"):
        Gate(pairs, brighter(7))


def test_missing_pairs_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no blur/ folder"):
        Gate(tmp_path, brighter(1))
