import tracemalloc

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image

from train.pictures import PictureStore, find_pairs, find_pictures, read_picture

CPU = torch.device("cpu")


def test_crops_are_cut_from_where_they_say(photos):
    paths = find_pictures(photos)
    store = PictureStore(paths, smallest=32, device=CPU)
    places = torch.tensor([[1, 10, 20], [2, 128, 148]])
    crops = store.crops(places, 32)
    for crop, (which, top, left) in zip(crops, places.tolist(), strict=True):
        expected = read_picture(paths[which])[top : top + 32, left : left + 32]
        assert np.array_equal((crop * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_pictures_are_in_memory_once(tmp_path):
    side = 512
    for number in range(8):
        Image.new("RGB", (side, side)).save(tmp_path / f"{number}.png")
    tracemalloc.start()  # which sees numpy's arrays, and not what stays in torch's
    try:
        PictureStore(find_pictures(tmp_path), smallest=32, device=CPU)
        assert tracemalloc.get_traced_memory()[1] < 8 * side * side * 3
    finally:
        tracemalloc.stop()


def test_small_pictures_are_mirrored(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "small.png")
    store = PictureStore([tmp_path / "small.png"], smallest=16, device=CPU)
    (crop,) = store.crops(store.places(1, 16, torch.Generator().manual_seed(0)), 16)
    mirrored = np.pad(picture, ((0, 11), (0, 9), (0, 0)), mode="symmetric")
    assert np.array_equal((crop * 255).round().byte().permute(1, 2, 0).numpy(), mirrored)


def test_large_pictures_are_there_a_second_time_reduced(tmp_path):
    for name, side in (("a", 128), ("b", 100), ("c", 80)):
        noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    paths = find_pictures(tmp_path)
    assert len(PictureStore(paths, smallest=64, device=CPU)) == 3
    store = PictureStore(paths, smallest=64, device=CPU, reduced=True)
    assert len(store) == 5  # the smallest would become too small
    crops = store.crops(torch.tensor([[3, 0, 0], [4, 0, 0]]), 64)
    for crop, path, side in zip(crops, paths, (64, 66), strict=False):
        expected = read_picture(path, size=(side, side))[:64, :64]
        assert np.array_equal((crop * 255).round().byte().permute(1, 2, 0).numpy(), expected)
        assert 20 < expected.std() < 60  # of noise that was averaged


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


def test_crops_with_detail_come_up_more_often(tmp_path):
    """One of two draws is of the board that fills half of the picture with probability 3/4."""
    picture = np.full((64, 640, 3), 100, np.uint8)
    picture[:, :320] = (np.indices((64, 320)).sum(axis=0) % 2 * 255)[..., None]
    Image.fromarray(picture).save(tmp_path / "half.png")
    store = PictureStore([tmp_path / "half.png"], smallest=32, device=CPU)
    for draws, share in ((1, 0.5), (2, 0.75), (3, 0.875)):
        left = store.places(1000, 32, torch.Generator().manual_seed(0), draws=draws)[:, 2]
        assert (left < 304).float().mean() == pytest.approx(share, abs=0.06)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        Image.new("RGB", (4, 4)).save(tmp_path / f"f{number}.png")
    assert [path.stem for path in find_pictures(tmp_path)] == [f"f{n}" for n in range(12)]


@pytest.mark.parametrize("name", ["", "/blur", "blur[u]"])
def test_a_blurred_folder_is_a_name_and_no_pattern(pairs, name):
    with pytest.raises(FileNotFoundError, match=r"no .*/ folder with pictures"):
        find_pairs(pairs, name)


def test_a_picture_too_large_to_open_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"huge\.png: .*decompression bomb"):
        read_picture(tmp_path / "huge.png")
