"""From the enlarged drawing to the picture: a view at a slant, a random light, and a camera."""

import numpy as np
from PIL import Image

from going_modular.drawn.pen import FULL_TURN, Pen, ramp, unit


def photograph(pen: Pen, size: int, tilt: float = 1.0, strength: float = 1.0) -> Image.Image:
    """Average an enlarged RGB drawing down to size x size px, at a slant and in a random light.

    The sides are cut off and the rest is widened, so that circles get `tilt` times as high as wide.
    The light has an exposure, a colour, a gradient and vignetting; the camera a saturation, a
    contrast and grain. `strength` scales all of these but the grain: at 0 the light is white and
    even, and the camera changes no colour.
    """
    wide = pen.image.width
    cut = wide * (1 - tilt) / 2
    seen = pen.image.resize((size, size), Image.Resampling.BOX, (cut, 0, wide - cut, wide))
    x = np.asarray(seen, np.float32)  # [size, size, 3]

    # the exposure and the colour of the light, a factor for each channel
    exposure, warmth, green, angle = (strength * pen.between(-1, 1) for _ in range(4))
    contrast = 1 + strength * pen.between(-0.25, 0.25)
    saturation = 1 + strength * pen.between(-0.4, 0.2)
    gain = np.exp(0.32 * exposure + np.array([0.16 * warmth, 0.07 * green, -0.16 * warmth]))

    # saturation, contrast and gain are linear in the channels: one 3 x 3 matrix does all three
    camera = contrast * (saturation * np.eye(3) + (1 - saturation) / 3) * gain

    # brighter on one side than on the other, and darker in the corners
    slope = strength * pen.between(0, 0.35) * unit(FULL_TURN * angle)
    across = ramp(size, -1, 1).astype(np.float32)  # [size]
    corners = strength * pen.between(0, 0.2) * across**2
    light = 1 + (slope.real * across - corners) + (slope.imag * across - corners)[:, None]

    # eight grey levels of grain; the last half makes the cut to whole numbers below a rounding
    grain = 8 * pen.rng.random((size, size), dtype=np.float32) - 3.5

    # channels first, so that each operation below runs over long rows
    x = camera.T.astype(np.float32) @ x.reshape(-1, 3).T  # [3, size * size]
    # contrast is counted from the middle grey, 128
    middle = (128 * (1 - contrast) * gain[:, None]).astype(np.float32)
    x = (x + middle) * light.ravel() + grain.ravel()
    x = np.clip(x, 0, 255, out=x).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(x.T).reshape(size, size, 3))
