from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
from train.evaluation.video import Clip


def clip(frames, sharp):
    made = Clip()
    for frame, twin in zip(frames, sharp, strict=True):
        made.add(frame, twin)
    return made


def grey(*levels):
    return [np.full((4, 6, 3), level, np.uint8) for level in levels]


def test_what_stands_or_changes_evenly_does_not_flicker():
    assert clip(grey(9, 9, 9, 9), grey(9, 9, 9, 9)).flicker == 0
    assert clip(grey(10, 30, 50, 70), grey(9, 9, 9, 9)).flicker == 0


def test_what_alternates_flickers_with_all_its_energy():
    # 100 +- 6: the amplitude is 6, and the filter passes it whole
    assert clip(grey(106, 94, 106, 94, 106), grey(0, 0, 0, 0, 0)).flicker == pytest.approx(36)


def test_the_temporal_error_is_of_changes_alone():
    sharp = grey(10, 60, 20, 250)
    assert clip(sharp, sharp).temporal_error == 0
    # Wrong by the same 5 levels in each frame; then by 3 more in every second one.
    assert clip(grey(15, 65, 25, 255), sharp).temporal_error == 0
    assert clip(grey(10, 63, 20, 253), sharp).temporal_error == pytest.approx(3)


def test_nothing_is_compared_across_a_cut():
    made = Clip()
    for scene in (grey(0, 0, 0), grey(200, 200, 200)):
        made.cut()
        for frame in scene:
            made.add(frame, grey(0)[0])
    assert made.flicker == 0
    assert made.temporal_error == 0
