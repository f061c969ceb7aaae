"""Views: equal to torchvision's transforms where they do the same, and as random as promised."""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from going_modular import data_setup


@pytest.fixture
def photo():
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC)


def test_eval_transform(photo):
    image = data_setup.eval_transform(64)(photo)
    expected = torch.from_numpy(np.array(photo.crop((16, 0, 80, 64)))).permute(2, 0, 1) / 127.5 - 1
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32
    torch.testing.assert_close(image, expected)
    assert data_setup.eval_transform(32)(photo).shape == (3, 32, 32)
    grey = data_setup.eval_transform(64)(photo.convert("L"))
    assert grey.shape == (3, 64, 64) and torch.equal(grey[0], grey[2])
    clear = Image.new("RGBA", (9, 12), (0, 0, 0, 0))
    assert (data_setup.eval_transform(4)(clear) == 1).all()  # on white


@pytest.mark.parametrize("size, box", [
    ((32, 96), (0, 16, 96, 48)),  # the photo is 64 high and 96 wide: too high for this view
    ((64, 32), (32, 0, 64, 64)),  # and too wide for this one
    ((64, 96), (0, 0, 96, 64))])
def test_a_rectangle_is_the_middle_of_what_just_covers_it(photo, size, box):
    image = data_setup.eval_transform(size)(photo)
    expected = torch.from_numpy(np.array(photo.crop(box))).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(image, expected)
    assert data_setup.eval_transform((7, 50))(photo).shape == (3, 7, 50)


def test_random_crops_for_a_rectangle_have_its_shape(photo):
    """Of a photo of twice the width, a view of twice the width sees all, without distortion."""
    wide = photo.resize((96, 48))
    view = data_setup.train_transform((24, 48), min_scale=1.0, stretch=1, flip=False, color_jitter=0)
    torch.testing.assert_close(view(wide), data_setup.eval_transform((24, 48))(wide))
    assert data_setup.train_transform((24, 40))(photo).shape == (3, 24, 40)


@pytest.mark.parametrize("factors", [(0.7, 1, 1), (1, 0.6, 1), (1, 1, 0.4), (0.8, 0.7, 0.9)])
def test_recolor_equals_torchvision(photo, factors):
    image = v2.functional.to_dtype(v2.functional.to_image(photo), torch.float32, scale=True)
    expected = image
    for adjust, factor in zip((v2.functional.adjust_brightness, v2.functional.adjust_contrast,
                               v2.functional.adjust_saturation), factors, strict=True):
        expected = adjust(expected, factor)
    images = torch.stack([image, image.flip(2) ** 2]) * 2 - 1
    ours = data_setup.recolor(images, torch.tensor([factors, (1.0, 1.0, 1.0)]))
    expected = torch.stack([expected * 2 - 1, images[1]])
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=0)  # torchvision counts red as 0.2989 of the grey
    brighter = data_setup.recolor(images, torch.full((2, 3), 1.9))
    assert brighter.min() >= -1 and brighter.max() == 1


def test_train_transform(photo):
    torch.manual_seed(0)
    transform = data_setup.train_transform(32)
    images = torch.stack([transform(photo) for _ in range(64)])
    assert images.shape == (64, 3, 32, 32) and images.abs().max() <= 1
    assert len(images.flatten(1).unique(dim=0)) == 64
    ramp = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8)[None, :, None], (64, 1, 3)))  # bright on the right
    for flip, expected in ((True, {-1, 1}), (False, {1})):
        transform = data_setup.train_transform(32, flip=flip)
        views = [transform(ramp) for _ in range(20)]
        assert {int(torch.sign(view[0, :, -1].mean() - view[0, :, 0].mean())) for view in views} == expected


def test_warp_turns_clockwise_then_shears_then_zooms_then_shifts():
    def bright(turn=0.0, shear=0.0, zoom=(1, 1), shift=(0, 0)):
        return np.asarray(data_setup.warp(line, turn, shear, zoom, shift))[..., 0]

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    inner = np.s_[1:-1, 1:-1]  # what lies on the edge after a quarter turn may round to the outside
    turned = np.asarray(data_setup.warp(noise, 90, 0, (1, 1), (0, 0)))
    assert np.allclose(turned[inner], np.asarray(noise.transpose(Image.Transpose.ROTATE_270))[inner], atol=1)
    assert np.array_equal(data_setup.warp(noise, 0, 0, (1, 1), (0, 0)), noise)

    line = Image.new("RGB", (41, 41))
    line.paste((255, 255, 255), (20, 0, 21, 41))  # upright, in the middle
    assert [int(bright(shear=0.5)[row].argmax()) for row in (0, 20, 40)] == [30, 20, 10]
    lying = bright(turn=90, shear=0.5)
    assert lying[20, 1:-1].min() >= 254 and lying[:19].max() == 0  # no slant is left of a line that lies
    assert [int(bright(shear=0.5, zoom=(1.5, 1))[row].argmax()) for row in (0, 40)] == [35, 5]
    assert bright(zoom=(1, 0.5)).any(axis=1).sum() in (20, 21, 22) and bright(zoom=(3, 1)).any(axis=0).sum() > 3
    moved = bright(shift=(4 / 41, -10 / 41))
    assert moved[:31, 24].min() == 255 and moved[31:].max() == 0 and moved.any(axis=0).sum() == 1


def test_warped_views_keep_a_digit_whole_and_vary_about_its_size():
    square = Image.new("RGB", (28, 28))
    square.paste((255, 255, 255), (6, 6, 22, 22))
    torch.manual_seed(0)
    view = data_setup.train_transform(28, min_scale=1.0, flip=False, color_jitter=0, stretch=1, turn=9, shear=0.1,
                                      zoom=0.1, shift=0.04)
    views = torch.stack([view(square)[0] for _ in range(200)])
    areas = (views + 1).sum(dim=(1, 2)) / 2
    assert areas.min() < 0.87 * 256 and areas.max() > 1.13 * 256 and 0.97 < areas.mean() / 256 < 1.03
    edges = torch.cat([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]], dim=1)
    assert edges.max() < -0.5  # nothing of the square is cut off
    assert len(views.flatten(1).unique(dim=0)) == 200


def test_trivial_augment_sees_its_share_of_the_images(photo, monkeypatch):
    black = torch.nn.Module()
    black.forward = lambda image: Image.new("RGB", image.size)
    monkeypatch.setattr(v2, "TrivialAugmentWide", lambda: black)
    torch.manual_seed(0)
    transform = data_setup.train_transform(8, trivial_augment=0.3)
    share = sum((transform(photo) < -0.999).all().item() for _ in range(400)) / 400
    assert 0.23 < share < 0.37


def test_trivial_augment_changes_images(photo):
    torch.manual_seed(0)
    transform = data_setup.train_transform(32, min_scale=1.0, flip=False, color_jitter=0, trivial_augment=1.0)
    square = photo.crop((0, 0, 64, 64))
    means = torch.stack([transform(square).mean() for _ in range(40)])
    assert means.std() > 0.05  # crops of the whole image alone would all have nearly the same mean


def test_views_are_torchvisions(photo):
    pixels = data_setup.to_pixels(photo)
    assert np.array_equal(data_setup.to_image(pixels), photo)
    whole = data_setup.train_transform(24, min_scale=1.0, flip=False, color_jitter=0, stretch=1)
    top, side = 0, 64  # a square that does not fit keeps its height
    torch.manual_seed(0)
    left = round(torch.rand(8)[2].item() * (96 - round((96 * 64) ** 0.5)))
    torch.manual_seed(0)
    expected = v2.functional.resized_crop(pixels, top, left, side, round((96 * 64) ** 0.5), [24, 24])
    assert torch.equal(whole.cut(pixels)[0], expected)
    expected = v2.Compose([v2.Resize(48), v2.CenterCrop(48)])(pixels)
    assert torch.equal(data_setup.eval_transform(48).cut(pixels)[0], expected)


def test_crops_have_the_promised_areas_and_shapes():
    ramp = np.stack(np.meshgrid(np.arange(128), np.arange(128)), axis=-1)
    ramp = Image.fromarray(np.concatenate([ramp, ramp[..., :1]], axis=-1).astype(np.uint8))
    transform = data_setup.train_transform(32, min_scale=0.35, flip=False, color_jitter=0)
    torch.manual_seed(0)
    areas, ratios = [], []
    for _ in range(200):
        x, y, _ = (transform(ramp) + 1) * 127.5
        width, height = (x[:, -1] - x[:, 0]).mean().item(), (y[-1] - y[0]).mean().item()
        areas.append(width * height * (32 / 31 / 128) ** 2)
        ratios.append(width / height)
    assert 0.33 < min(areas) < 0.45 and 0.85 < max(areas) < 1.02
    assert 0.73 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.36
