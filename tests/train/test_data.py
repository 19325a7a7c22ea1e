from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image

from train.config import TrainConfig
from train.data import PictureStore, Samples, find_pairs, find_pictures, read_picture

CPU = torch.device("cpu")


def test_crops_are_cut_from_where_they_say(photos):
    paths = find_pictures(photos)
    store = PictureStore(paths, smallest=32, device=CPU)
    places = torch.tensor([[1, 10, 20], [2, 128, 148]])
    crops = store.crops(places, 32)
    for crop, (which, top, left) in zip(crops, places.tolist(), strict=True):
        expected = read_picture(paths[which])[top : top + 32, left : left + 32]
        assert np.array_equal((crop * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_small_pictures_are_mirrored(tmp_path):
    Image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(tmp_path / "small.png")
    store = PictureStore([tmp_path / "small.png"], smallest=16, device=CPU)
    places = store.places(4, 16, torch.Generator().manual_seed(0))
    assert (store.crops(places, 16) * 255).round().unique().tolist() == [9]


def test_gopro_layout_is_found(tmp_path):
    for kind in ("blur", "blur_gamma", "sharp"):
        folder = tmp_path / "train" / "GOPR0001" / kind
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "000001.png")
    assert len(find_pairs(tmp_path)) == 1
    ((blurred, sharp),) = find_pairs(tmp_path, "blur_gamma")
    assert blurred.parent.name == "blur_gamma"
    assert sharp.parent.name == "sharp"


def test_a_missing_twin_is_named(pairs):
    (pairs / "sharp" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.png has no sharp twin"):
        find_pairs(pairs)


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        read_picture(tmp_path / "broken.png")


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="--photos"):
        Samples(TrainConfig(), CPU)


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


def test_twins_that_do_not_match_are_named(pairs: Path):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(pairs / "sharp" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png and its sharp twin differ in size"):
        Samples(TrainConfig(pairs=(pairs,), crops=(32,)), CPU)
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


def test_crops_with_detail_come_up_more_often(tmp_path):
    """One of two draws is of the board that fills half of the picture with probability 3/4."""
    picture = np.full((64, 640, 3), 100, np.uint8)
    picture[:, :320] = (np.indices((64, 320)).sum(axis=0) % 2 * 255)[..., None]
    Image.fromarray(picture).save(tmp_path / "half.png")
    store = PictureStore([tmp_path / "half.png"], smallest=32, device=CPU)
    for draws, share in ((1, 0.5), (2, 0.75), (3, 0.875)):
        left = store.places(1000, 32, torch.Generator().manual_seed(0), draws=draws)[:, 2]
        assert (left < 304).float().mean() == pytest.approx(share, abs=0.06)


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


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    film(tmp_path / "a", [0] * 12)
    assert [path.stem for path in find_pictures(tmp_path)] == [f"f{n}" for n in range(12)]


@pytest.mark.parametrize(
    ("count", "size", "said"), [(14, 112, "15 consecutive frames, and .*b has 14"), (15, 120, "")]
)
def test_what_is_no_film_is_refused(tmp_path, count, size, said):
    film(tmp_path / "a", [0] * 15)
    film(tmp_path / "b", [0] * count, size)
    if size != 112:
        Image.new("RGB", (130, 130)).save(tmp_path / "b" / "f3.png")
    with pytest.raises(ValueError, match=said or "the frames in .*b differ in size"):
        Samples(TrainConfig(high_rate=(tmp_path,), crops=(32,)), CPU)


def test_a_step_back_gives_its_own_samples(photos: Path):
    config = TrainConfig(photos=(photos,), crops=(32,), reuse=4)
    samples = Samples(config, CPU)
    first = samples.batch(40, 32, 4)
    samples.batch(45, 32, 4)
    again = samples.batch(40, 32, 4)
    assert all(torch.equal(*both) for both in zip(first, again, strict=True))
