from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image

from train import blur, data
from train.config import TrainConfig
from train.data import Samples
from train.pictures import find_pairs, find_pictures, read_picture

CPU = torch.device("cpu")


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="--photos"):
        Samples(TrainConfig(), CPU)


def test_each_kind_of_data_needs_a_share(photos: Path, pairs: Path):
    config = TrainConfig(photos=(photos,), pairs=(pairs,), high_rate=(pairs,), crops=(32,))
    with pytest.raises(ValueError, match="no share for --photos"):
        Samples(replace(config, share_pairs=0.7), CPU)
    with pytest.raises(ValueError, match="--pairs a share"):
        Samples(TrainConfig(pairs=(pairs,), share_pairs=0.0), CPU)
    config = replace(config, high_rate=())
    found = find_pairs(pairs)
    assert [share for share, _ in data._makers(config, found, CPU)] == [0.8, 0.2]


def test_samples_come_in_their_shares(photos: Path, monkeypatch):
    def of(level):
        return lambda count, crop, dice: (torch.full((count, 3, crop, crop), level),) * 2

    monkeypatch.setattr(data, "_makers", lambda *_: [(0.3, of(0.0)), (0.1, of(1.0))])
    samples = Samples(TrainConfig(reuse=1, augment=False), CPU)
    made = torch.cat([samples.batch(step, 16, 8)[1][:, 0, 0, 0] for step in range(100)])
    assert (made == 1).float().mean() == pytest.approx(0.25, abs=0.05)


def test_a_blur_longer_than_the_margin_is_refused(photos: Path):
    with pytest.raises(ValueError, match=r"--extent 100: .* enough for 80"):
        Samples(TrainConfig(photos=(photos,), crops=(32,), extent=100.0), CPU)


def test_pairs_are_mirrored_and_turned_together_in_all_eight_ways():
    picture = torch.rand(1, 3, 4, 4).expand(200, -1, -1, -1)
    blurred, sharp = data._turn(picture, picture * 2, blur.Dice.of(0, CPU))
    assert torch.equal(sharp, blurred * 2)
    assert len({tuple(each.flatten().tolist()) for each in blurred}) == 8


@pytest.mark.parametrize("reuse", [1, 3])
def test_a_batch_depends_on_the_step_alone(photos: Path, pairs: Path, reuse: int):
    config = TrainConfig(photos=(photos,), pairs=(pairs,), crops=(32,), reuse=reuse)
    walked = Samples(config, CPU)
    batches = [walked.batch(step, 32, 4) for step in range(6)]
    jumped = Samples(config, CPU).batch(5, 32, 4)
    assert jumped[0].shape == (4, 3, 32, 32)
    assert torch.equal(jumped[0], batches[5][0])
    assert torch.equal(jumped[1], batches[5][1])
    assert not torch.equal(batches[4][0], batches[5][0])


def test_a_change_of_size_makes_the_pool_anew(photos: Path):
    config = TrainConfig(photos=(photos,), crops=(32, 48), reuse=3)
    walked = Samples(config, CPU)
    for step in range(4):
        walked.batch(step, 32, 4)
    grown = walked.batch(4, 48, 2)
    assert grown[0].shape == (2, 3, 48, 48)
    assert torch.equal(grown[0], Samples(config, CPU).batch(4, 48, 2)[0])


def test_without_augmentation_pairs_come_as_they_are(pairs: Path):
    config = TrainConfig(pairs=(pairs,), share_pairs=1.0, crops=(64,), augment=False, reuse=1)
    blurred, sharp = Samples(config, CPU).batch(0, 64, 4)
    for crop, kind in ((blurred[0], "blur"), (sharp[0], "sharp")):
        tile = ((crop + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        rows = [read_picture(path) for path in find_pictures(pairs / kind)]
        assert any(
            np.array_equal(picture[y : y + 64, x : x + 64], tile)
            for picture in rows
            for y in range(picture.shape[0] - 63)
            for x in range(picture.shape[1] - 63)
        )


def test_augmentation_degrades_the_blurred_ones_alone(pairs: Path, monkeypatch):
    monkeypatch.setattr(data, "_turn", lambda blurred, sharp, _: (blurred, sharp))
    config = TrainConfig(pairs=(pairs,), crops=(64,), reuse=1)
    blurred, sharp = Samples(config, CPU).batch(0, 64, 8)
    clean, same = Samples(replace(config, augment=False), CPU).batch(0, 64, 8)
    assert torch.equal(sharp, same)
    assert not torch.equal(blurred, clean)


@pytest.mark.parametrize("crop", [32, 128])  # smaller than the pictures, and larger
def test_twins_that_do_not_match_are_named(pairs: Path, crop: int):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(pairs / "sharp" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png and its sharp twin differ in size"):
        Samples(TrainConfig(pairs=(pairs,), crops=(crop,)), CPU)
    (pairs / "blur" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 sharp pictures beside .*: 1\.png"):
        find_pairs(pairs)


def test_seeds_and_ranks_make_other_batches(photos: Path):
    config = TrainConfig(photos=(photos,), crops=(32,))
    batches = [
        Samples(config, CPU).batch(3, 32, 2)[0],
        Samples(config, CPU, rank=1).batch(3, 32, 2)[0],
        Samples(replace(config, seed=1), CPU).batch(3, 32, 2)[0],
    ]
    assert not any(torch.equal(batches[i], batches[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_high_rate_frames_are_averaged_around_their_middle(tmp_path):
    for index in range(20):
        picture = np.full((112, 112, 3), 100, np.uint8)
        picture[:, 46 + index : 54 + index] = 200
        Image.fromarray(picture).save(tmp_path / f"{index:03d}.png")
    config = TrainConfig(high_rate=(tmp_path,), share_high_rate=1.0, crops=(32,), reuse=1)
    blurred, sharp = Samples(config, CPU).batch(0, 32, 8)
    levels = ((sharp + 1) * 127.5).round().unique().tolist()
    assert set(levels) <= {100, 200}
    assert (blurred - sharp).abs().max() > 0.2


def film(folder: Path, levels: list[int], size: int = 112) -> None:
    folder.mkdir()
    for number, level in enumerate(levels):
        Image.fromarray(np.full((size, size, 3), level, np.uint8)).save(folder / f"f{number}.png")


def test_no_average_is_of_two_films(tmp_path):
    film(tmp_path / "a", [0] * 15)
    film(tmp_path / "b", [255] * 15)
    config = TrainConfig(high_rate=(tmp_path,), share_high_rate=1.0, crops=(32,), reuse=1)
    samples = Samples(replace(config, augment=False), CPU)
    batches = [samples.batch(step, 32, 8) for step in range(12)]
    assert all((blurred - sharp).abs().max() < 0.01 for blurred, sharp in batches)
    assert len({level for _, sharp in batches for level in sharp.round().unique().tolist()}) == 2


@pytest.mark.parametrize(
    ("count", "size", "said"), [(14, 112, "15 consecutive frames, and .*b has 14"), (15, 120, "")]
)
@pytest.mark.parametrize("crop", [32, 64])  # smaller than the frames with margin, and larger
def test_what_is_no_film_is_refused(tmp_path, count, size, said, crop):
    film(tmp_path / "a", [0] * 15)
    film(tmp_path / "b", [0] * count, size)
    if size != 112:
        Image.new("RGB", (130, 130)).save(tmp_path / "b" / "f3.png")
    with pytest.raises(ValueError, match=said or "the frames in .*b differ in size"):
        Samples(TrainConfig(high_rate=(tmp_path,), crops=(crop,)), CPU)


def test_a_step_back_gives_its_own_samples(photos: Path):
    config = TrainConfig(photos=(photos,), crops=(32,), reuse=4)
    samples = Samples(config, CPU)
    first = samples.batch(40, 32, 4)
    samples.batch(45, 32, 4)
    again = samples.batch(40, 32, 4)
    assert all(torch.equal(*both) for both in zip(first, again, strict=True))
