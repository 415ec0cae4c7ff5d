"""Figures of lines and planes: what is drawn, clipped and left white."""

import io

import matplotlib.image
import numpy as np
import pytest

from experiments.report import _landscape_figures as figures
from optax_ia.landscape import Line, Surface

XS, YS = np.linspace(-1, 1, 11), np.linspace(-0.5, 1, 9)


def bowl(scale=1.0):
    return Surface(XS, YS, scale * (XS[None] ** 2 + YS[:, None] ** 2))


def valley(scale=1.0):
    return Line(XS, scale * XS**2)


def pixels(png):
    image = matplotlib.image.imread(io.BytesIO(png))
    assert image.ndim == 3
    assert min(image.shape[:2]) > 200
    return image[..., :3]


def coloured(png):
    """The share of the picture that is neither black, white nor grey."""
    image = pixels(png)
    return np.mean(np.ptp(image, axis=-1) > 0.1)


@pytest.mark.parametrize(
    ("log", "bounds"),
    [
        (False, (0.0, 1.0)),
        (True, None),
        (True, (0.1, 0.5)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((False, None), (False, (0.1, 0.5)), (True, (0.0, 1.0)))
        ),
    ],
)
def test_every_figure_with_every_scale(log, bounds):
    surfaces = {"a": bowl(), "b": bowl(0.2)}
    for png in (
        figures.contour(surfaces, log=log, bounds=bounds),
        figures.surface(surfaces, log=log, bounds=bounds),
        figures.line({"a": valley(), "b": valley(3)}, log=log, bounds=bounds),
    ):
        assert coloured(png) > 0.001


def test_losses_beyond_the_bounds_are_white_in_a_contour():
    everywhere = coloured(figures.contour({"a": bowl()}))
    within = coloured(figures.contour({"a": bowl()}, bounds=(0.0, 0.25)))
    assert everywhere > 0.5
    # a disc of radius 0.5 on a window of 2 by 1.5, beside the scale of colours
    assert within < 0.5 * everywhere


def test_panels_share_the_scale_of_colours():
    """The flatter of two bowls is all of the colour of the lowest level."""
    alone = pixels(figures.contour({"b": bowl(0.01)}))
    beside = pixels(figures.contour({"a": bowl(), "b": bowl(0.01)}))
    second = beside[:, beside.shape[1] * 55 // 100 : beside.shape[1] * 80 // 100]

    def colours(image):
        flat = np.round(image[image.max(axis=-1) - image.min(axis=-1) > 0.1], 2)
        values, counts = np.unique(flat, axis=0, return_counts=True)
        return len(values[counts > 200])

    assert colours(second) == 1
    assert colours(alone) > 8


def test_losses_that_are_not_finite():
    losses = np.array(bowl().losses)
    losses[0, 0], losses[4, 5] = np.inf, np.nan
    broken = Surface(XS, YS, losses)
    nothing = Surface(XS, YS, np.full_like(losses, np.nan))
    for draw in (figures.contour, figures.surface):
        for log in (False, True):
            pixels(draw({"broken": broken, "nothing": nothing}, log=log))
    values = np.where(np.arange(11) > 7, np.nan, XS**2)
    pixels(figures.line({"a": Line(XS, values)}, log=True))


def test_a_flat_loss():
    flat = Surface(XS, YS, np.full((9, 11), 2.0))
    for log in (False, True):
        pixels(figures.contour({"flat": flat, "bowl": bowl()}, log=log))
        pixels(figures.contour({"flat": flat}, log=log))
        pixels(figures.surface({"flat": flat}, log=log))
        pixels(figures.line({"flat": Line(XS, np.ones(11))}, log=log))


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((0.3, 4.0), [0.5, 1, 2]),
        ((0.0016, 40.0), [0.01, 0.1, 1, 10]),
        ((1e-9, 1e3), [1e-9, 1e-6, 1e-3, 1, 1e3]),
    ],
)
def test_heights_have_few_round_ticks(limits, wanted):
    ticks = figures._sparse_log_ticks(limits)
    np.testing.assert_allclose(ticks, wanted)


def test_paths_and_marks_are_drawn():
    plain = figures.contour({"a": bowl()})
    path = np.array([[-0.9, 0.9], [-0.2, 0.3], [0.0, 0.0]])
    assert figures.contour({"a": bowl()}, paths={"a": path}) != plain
    marked = figures.line({"a": valley()}, marks={"iterate": 0.0, "average": 1.0})
    assert marked != figures.line({"a": valley()})


def test_many_panels_and_curves():
    pixels(figures.contour({str(i): bowl(i) for i in range(1, 6)}))
    pixels(figures.line({str(i): valley(i) for i in range(1, 8)}))


def test_the_same_results_give_the_same_file():
    assert figures.contour({"a": bowl()}) == figures.contour({"a": bowl()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (5.0, 6.0)}, "no loss to draw"),
        ({"bounds": (1.0, 0.0)}, "bounds must be"),
    ],
)
def test_nothing_to_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        figures.contour({"a": bowl()}, **arguments)
