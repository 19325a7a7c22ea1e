import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from train import perceptual
from train.perceptual import VggFeatures, load_vgg, perceptual_loss

ORIGINAL = os.environ.get("STREAMDEBLUR_VGG")


def test_features_are_vgg19_up_to_conv3_3(vgg_weights):
    features = VggFeatures(vgg_weights)
    assert features(torch.zeros(2, 3, 32, 48)).shape == (2, 32, 8, 12)
    assert not any(p.requires_grad for p in features.parameters())
    with torch.no_grad():  # the same by torch's functions, layer by layer
        x = (torch.rand(1, 3, 16, 16) + 1) / 2
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        y = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        for block in (("1_1", "1_2"), ("2_1", "2_2"), ("3_1", "3_2", "3_3")):
            if block[0] != "1_1":
                y = torch.nn.functional.max_pool2d(y, 2)
            for name in block:
                weight, bias = (vgg_weights[f"conv{name}.{kind}"] for kind in ("weight", "bias"))
                y = torch.relu(torch.nn.functional.conv2d(y, weight, bias, padding=1))
        torch.testing.assert_close(features(x * 2 - 1), y)


def test_both_kinds_of_files_give_the_same_features(vgg_weights, vgg, tmp_path):
    places = {"1_1": 0, "1_2": 2, "2_1": 5, "2_2": 7, "3_1": 10, "3_2": 12, "3_3": 14}
    state = {
        f"features.{place}.{kind}": vgg_weights[f"conv{name}.{kind}"]
        for name, place in places.items()
        for kind in ("weight", "bias")
    }
    torch.save(state, tmp_path / "vgg.pth")
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(load_vgg(vgg)(x), load_vgg(tmp_path / "vgg.pth")(x))


def test_weights_of_caffes_scale_are_brought_down(vgg_weights):
    scaled = dict(vgg_weights)
    scaled["conv1_1.weight"] = 57.63 * vgg_weights["conv1_1.weight"]
    for name in vgg_weights:
        if name.endswith("bias"):
            scaled[name] = 57.63 * vgg_weights[name]
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(VggFeatures(scaled)(x), VggFeatures(vgg_weights)(x))


def test_equation_8_divides_by_width_and_height():
    a, b = torch.zeros(1, 4, 2, 3), torch.ones(1, 4, 2, 3)
    assert perceptual_loss(a, b, channels="sum").item() == 4
    assert perceptual_loss(a, b).item() == 1


def test_weights_that_cannot_be_had_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="check --vgg"):
        load_vgg(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match="does not hold VGG-19"):
        load_vgg(tmp_path / "other.npz")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="does not hold VGG-19"):
        load_vgg(tmp_path / "text.pth")
    monkeypatch.setattr(perceptual, "URL", "http://127.0.0.1:9/vgg19.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9.*--vgg FILE"):
        load_vgg(None)


@pytest.mark.skipif(ORIGINAL is None, reason="STREAMDEBLUR_VGG names no file")
def test_the_original_weights_come_out_on_torchvisions_scale(photos):
    from train.pictures import find_pictures, read_picture

    picture = torch.from_numpy(read_picture(find_pictures(photos)[0])).permute(2, 0, 1)[None]
    features = load_vgg(Path(ORIGINAL))(picture / 127.5 - 1)
    assert 1 < features.max() < 100
