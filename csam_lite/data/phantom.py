"""Synthetic prostate MRI with known truth, written as a Decathlon folder like MSD Task05 (T2 and ADC; 0
background, 1 PZ, 2 TZ).

Anatomy comes first, as tissue numbers on a fine isotropic grid; `acquire` then turns it into thick slices, as
a scanner does.

The gland is the middle part of a longer column. Below the apex the column goes on as membranous urethra and
sphincter, above the base as bladder neck and seminal vesicles, with the same outline, tissues, texture and
contrast, and the pelvis around it stands still along each end. So no single slice near an end tells gland
from look-alike (`python -m csam_lite ambiguity` measures what a small network reads off such slices). The
stack of slices does tell: the bladder opens BLADDER_ABOVE_BASE mm above the base, and the penile bulb begins
BULB_BELOW_APEX mm below the apex. The number of a slice tells little, because the stack is not centred on the
gland. The control phantom (ambiguous=False) differs in one thing: its look-alikes are dark like muscle.

Not modelled: the physics of the pulse sequence (contrast is a table, drawn at random), the diffusion weighted
images behind the ADC map, a pelvis that changes with every millimetre (a real one tells much about the level
of a slice, so real ends are less ambiguous), cancer as it grows (a lesion is an ellipsoid in the PZ), the
central zone, ghosts of breathing and bowel, implants, endorectal coils, and how organs vary together in a
population. A score on phantoms says what a method can do, not how good it is on patients.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.common.progress import progress_bar
from csam_lite.data.nifti import read_nifti

FINE = 0.8                                        # mm, spacing of the anatomy, the same along all axes
# its planes (Z), rows (Y) and columns (X): 96 x 208 x 208 mm
GRID = (120, 260, 260)
BLADDER_ABOVE_BASE, BULB_BELOW_APEX = 7.0, 12.0   # mm, the two landmarks that fix the ends of the gland
LANDMARKS_IN_VIEW = 3.0                           # mm of them that a stack shows, if it is long enough
# slices: how many training cases of Task05 have so many
DEPTHS = {11: 1, 15: 6, 18: 2, 19: 1, 20: 20, 22: 1, 24: 1}
# raise it when the same seed gives other bytes: older folders are then refused
VERSION = 2


class Tissue(IntEnum):
    """Tissue numbers of the fine grid. PZ to URETHRA make up the gland; such a number + LIKE is the same
    tissue of a look-alike."""

    FAT, AIR, MUSCLE, MARROW, CORTEX, URINE, WALL, CONTENT, VEIN, VESSEL, VESICLE, BULB = range(12)
    PZ, LESION, CAPSULE, TZ, NODULE, STROMA, URETHRA = range(12, 19)


T = Tissue
Planes = float | np.ndarray  # one number, or one for each plane
LIKE = 16
TISSUES = LIKE + T.URETHRA + 1
PERIPHERAL, CENTRAL = [T.PZ, T.LESION, T.CAPSULE], [T.TZ, T.NODULE, T.STROMA, T.URETHRA]
GLAND = PERIPHERAL + CENTRAL
# Mean T2 (fat is 1), its spread between patients (log), texture (part of the mean), mean ADC (1e-6 mm2/s),
# its spread (log).
CONTRAST = {
    T.FAT: (1.00, .12, .05, 60, .5), T.AIR: (.02, .1, 0, 0, 0), T.MUSCLE: (.20, .12, .18, 1150, .08),
    T.MARROW: (.62, .2, .12, 250, .4),
    T.CORTEX: (.06, .3, .1, 30, .3), T.URINE: (1.35, .25, .02, 2800, .06), T.WALL: (.32, .15, .15, 1250, .08),
    T.CONTENT: (.30, .9, .35, 700, .6), T.VEIN: (.85, .2, .40, 1300, .15), T.VESSEL: (.15, .6, .2, 900, .5),
    T.VESICLE: (.85, .25, .45, 1600, .1), T.BULB: (1.05, .1, .12, 1500, .1), T.PZ: (.86, .22, .15, 1650, .10),
    T.LESION: (.42, .15, .12, 900, .15), T.CAPSULE: (.38, .2, .1, 1200, .1), T.TZ: (.50, .15, .22, 1280, .08),
    T.NODULE: (.72, .2, .30, 1450, .1), T.STROMA: (.33, .12, .2, 1020, .1),
    T.URETHRA: (.70, .3, .15, 1450, .1)}


def _mark(numbers: Sequence[int], value: int = 1) -> np.ndarray:
    """Return a uint8 table over the tissue numbers: `value` for those given, 0 elsewhere."""
    table = np.zeros(TISSUES, np.uint8)
    table[numbers] = value
    return table


@dataclass
class Anatomy:
    """The truth of one phantom. Axes: Z upwards, Y to the front, X from right to left (RAS when read as X, Y,
    Z).

    tissue: uint8 (Z, Y, X), see Tissue. texture: int8 (Z, Y, X), 32 is one standard deviation. spacing: mm,
    the same on all axes. The centre of voxel i lies at (i - (n - 1) / 2) * spacing mm on an axis of n voxels:
    0 mm is the middle of the grid. apex, base: mm on the Z axis, the two ends of the gland. ambiguous: False
    for the control phantom.
    """

    tissue: np.ndarray
    texture: np.ndarray
    spacing: float
    apex: float
    base: float
    ambiguous: bool

    def zones(self) -> np.ndarray:
        """Return the fine truth, uint8 (Z, Y, X): 0 background, 1 PZ, 2 TZ."""
        return (_mark(PERIPHERAL) + _mark(CENTRAL, 2))[self.tissue]

    def volume_ml(self) -> float:
        """Return the volume of the gland in millilitres."""
        return float(np.count_nonzero(self.zones())) * self.spacing ** 3 / 1000


@dataclass
class Acquisition:
    """One scan of a phantom: S slices of H x W pixels, lowest slice first, hindmost row first, patient's
    right first.

    image: float32 (S, 2, H, W), channels T2 (arbitrary units) and ADC (1e-6 mm2/s). label: uint8 (S, H, W),
    0, 1 PZ, 2 TZ. column: bool (S, H, W), gland and look-alike together. spacing: mm (through-plane, row,
    column). centres: mm (S, 3), the point (z, y, x) of the anatomy at the middle of each slice, motion
    included: so pixels meet the fine truth. affine: 4 x 4, from voxel (x, y, z) to scanner mm, tilted about
    the left-right axis as in Task05.
    """

    image: np.ndarray
    label: np.ndarray
    column: np.ndarray
    spacing: tuple[float, float, float]
    centres: np.ndarray
    affine: np.ndarray


class _Canvas:
    """Paints organs into a tissue volume. Coordinates: mm from the middle of the gland. A slow warp makes the
    outlines irregular."""

    def __init__(self, rng: np.random.Generator):
        self.tissue = np.full(GRID, T.FAT, np.uint8)
        off = (0, rng.normal(4, 6), rng.normal(0, 4))   # the patient does not lie centred
        self.z, self.y, self.x = ((np.arange(n) - (n - 1) / 2) * FINE - o for n, o in zip(GRID, off))
        self.warp_x, self.warp_y = self._warp(rng, self.y), self._warp(rng, self.x)

    def _warp(self, rng: np.random.Generator, axis: np.ndarray) -> np.ndarray:
        waves = (rng.uniform(.2, 2) / k
                 * np.sin(axis * k / 22 + self.z[:, None] / 35 + rng.uniform(0, 2 * np.pi)) for k in (1, 2.7))
        return sum(waves).astype(np.float32)

    def at(self, z: np.ndarray) -> _Canvas:
        """The same canvas with other heights z (mm, one for each plane, never falling)."""
        other = copy(self)
        other.z = z
        return other

    def tube(self, low: float, high: float, x: Planes, y: Planes, a: Planes, b: Planes, value: int,
             only: Sequence[int] | None = None, shear: float = 0, bend: float = 0) -> None:
        """Fill, from z = low to high, the ellipse of centre (x, y) and half axes (a, b): each one number, or
        one for each plane.

        shear leans the section sideways, bend pulls its flanks backwards. only: the tissues that may be
        painted over.
        """
        planes = slice(*np.searchsorted(self.z, (low, high)))
        if planes.start >= planes.stop:
            return
        x, y, a, b = (np.broadcast_to(np.asarray(v, np.float32), self.z.shape)[planes, None, None]
                      for v in (x, y, a, b))
        a, b = np.maximum(a, .01), np.maximum(b, .01)
        reach_x, reach_y = a + abs(shear) * b + 4, b * (1 + abs(bend)) + 4
        rows = slice(*np.searchsorted(self.y, ((y - reach_y).min(), (y + reach_y).max())))
        columns = slice(*np.searchsorted(self.x, ((x - reach_x).min(), (x + reach_x).max())))
        v = (self.y[rows, None].astype(np.float32) - y + self.warp_y[planes, None, columns]) / b
        u = (self.x[columns].astype(np.float32) - x + self.warp_x[planes, rows, None]) / a
        if shear:
            u -= np.float32(shear) * v * (b / a)
        u *= u
        v += np.float32(bend) * u
        v *= v
        v += u
        inside = v < 1
        box = self.tissue[planes, rows, columns]
        if only is not None:
            inside &= _mark(only)[box] > 0
        box[inside] = value

    def ball(self, x: float, y: float, z: float, a: float, b: float, c: float, value: int,
             only: Sequence[int] | None = None) -> None:
        """Fill the ellipsoid of centre (x, y, z) and half axes (a, b, c)."""
        section = np.sqrt(np.clip(1 - ((self.z - z) / c) ** 2, 0, None))
        self.tube(z - c, z + c, x, y, a * section, b * section, value, only)


def _smooth(z: np.ndarray, knots: Sequence[float], values: Sequence[float]) -> np.ndarray:
    """Go from value to value between the knots without corners; flat beyond the ends."""
    t = np.interp(z, knots, np.arange(len(knots)))
    i = np.minimum(t.astype(int), len(knots) - 2)
    t, values = t - i, np.asarray(values)
    return values[i] + (values[i + 1] - values[i]) * t * t * (3 - 2 * t)


def _draw_column(rng: np.random.Generator, z: np.ndarray) -> SimpleNamespace:
    """Draw the shape of gland and look-alike, in mm: for each plane z, centre (x, y) and half axes (a, b),
    and those of the core (TZ).

    level: the height in the pelvis at which each plane cuts muscles, bones, vessels and rectum.
    """
    # 0 normal to 1 enlarged: a large gland is mostly a large TZ
    large = rng.uniform()
    volume = 22 * (95 / 22) ** large                                    # ml
    ratio = np.array([1.22, .78 + .25 * large, 1.02]) * np.exp(rng.normal(0, .06, 3))
    half_a, half_b, half_c = ratio * (volume * 1000 / (ratio[0] * ratio[1] * ratio[2] * 5)) ** (1 / 3)
    apex, base = -half_c, half_c
    # Flat on both sides of each end, farther than a slice reaches, so that the size of the outline does not
    # betray it.
    knots = (apex + rng.uniform(10, 11), .05 * half_c, .4 * half_c, base - rng.uniform(7, 8))
    size = _smooth(z, knots, (rng.uniform(.45, .62), 1, 1, rng.uniform(.58, .78)))
    size *= 1 + .03 * np.sin(z / 3.5 + rng.uniform(0, 6)) + .03 * np.sin(z / 6 + rng.uniform(0, 6))
    area = np.pi * half_a * half_b * size[(z > apex) & (z < base)] ** 2
    size *= np.sqrt(volume * 1000 / (area.sum() * FINE))                # now the gland has the volume drawn
    a, b, x, y = half_a * size, half_b * size, rng.normal(0, .04) * z, rng.normal(-.08, .08) * z
    # part of the section that is TZ, halfway
    share = np.clip(.22 + .5 * large + rng.normal(0, .08), .15, .8)
    core = np.sqrt(_smooth(z, knots,
                           (rng.uniform(.15, .3) + .2 * share, share, share,
                            min(share + rng.uniform(-.05, .2), .8))))
    core_b = b * np.minimum(core * 1.08, .93)
    # The pelvis stands still along each end, and changes between the ends and beyond them.
    still = apex - BULB_BELOW_APEX - 2, apex + 12, base - 8, base + BLADDER_ABOVE_BASE + 2
    at_apex, at_base = .75 * apex, .75 * base
    level = _smooth(z, (still[0] - 60, *still, still[3] + 60),
                    (at_apex - 60, at_apex, at_apex, at_base, at_base, at_base + 60))
    return SimpleNamespace(
        z=z, level=level, x=x, y=y, a=a, b=b, front=b.max(), large=large, plexus=rng.uniform(1, 5), apex=apex,
        base=base,
        bottom=apex - BULB_BELOW_APEX, top=base + BLADDER_ABOVE_BASE, core_a=a * core * .95, core_b=core_b,
        core_y=y + b * .93 - core_b)


def _paint_pelvis(canvas: _Canvas, rng: np.random.Generator, column: SimpleNamespace, back: float) -> None:
    """Paint muscles, bones and vessels. Their level against the gland is random (`up`), so that they do not
    give its ends away."""
    z, up, front, j = canvas.z, rng.normal(0, 6), column.front + 4, lambda sd=2.: rng.normal(0, sd)
    canvas.tissue[:, canvas.y[:, None] > max(front + rng.uniform(60, 95), 85) - canvas.x ** 2 / 600] = T.AIR
    wall = max(column.a.max() + 6, 28) * rng.uniform(.9, 1.1) + z * .1  # half the inner width of the pelvis
    thick = _smooth(z, (up - 20, up + 35), (13, 6))                     # of the obturator internus
    for s in (-1, 1):
        # Gluteus maximus, adductors with the obturator externus (low), rectus abdominis (high), obturator
        # internus.
        canvas.tube(-99, 99, s * 60 + j(), -80 + j(4) - z * .15, 46, 20 + j(), T.MUSCLE, shear=s * -1)
        canvas.tube(-99, up - 2 + j(), s * 56, front + 6 + j() + (z - up) * .2, 22, 34, T.MUSCLE,
                    shear=s * -1.2)
        canvas.tube(up - 25, 99, s * 17, front + 40 + j(), 16, 5 + j(.7), T.MUSCLE)
        canvas.tube(-99, 99, s * (wall + thick), 2 + j() + (z - up) * .15, thick, 38, T.MUSCLE,
                    shear=s * -.15)
        # Ischium and acetabulum, femoral head, pubis with its upper branch: marrow within a dark cortex.
        level, reach = (up - 35, up + 10), _smooth(z, (up - 5, up + 24), (13, 58))
        for value, rim in ((T.CORTEX, 0), (T.MARROW, 1.6)):
            canvas.tube(-99, 99, s * (wall + 19 + thick), _smooth(z, level, (-28, 0)), 14 - rim,
                        _smooth(z, level, (18, 34)) - rim,
                        value, shear=s * -.2)
            canvas.ball(s * (wall + 62), 3, up + 14, 23 - rim, 23 - rim, 24 - rim, value)
            canvas.tube(up - 38, up + 22, s * reach, front + 24 - reach * .2, 14 - rim, 12 - rim, value,
                        shear=s * -.7)
        # Femoral artery (a dark flow void) and vein, spermatic cord.
        canvas.tube(-99, 99, s * (60 + j()), front + 38 + j(), 5, 5, T.VESSEL)
        canvas.tube(-99, 99, s * (48 + j()), front + 36 + j(), 6, 5, rng.choice([T.VESSEL, T.VEIN]))
        canvas.tube(-99, up + 10, s * (28 + j()), front + 46 + j(), 7, 4, T.VEIN, only=[T.FAT])
    coccyx = back - 22 + j()
    for value, rim in ((T.CORTEX, 0), (T.MARROW, 1.6)):
        canvas.ball(0, coccyx, 42 + up, 14 - rim, 8 - rim, 40 - rim, value)
    # Levator ani: below, a sling around column and rectum; higher up it opens to the side wall and fades.
    sling_a = column.a + column.plexus + rng.uniform(0, 4)
    opened = np.minimum(sling_a + np.clip(z - rng.uniform(0, 10), 0, None) * .8, wall)
    sling = rng.uniform(2.5, 4.5) * _smooth(z, (15, rng.uniform(25, 40)), (1, 0))
    for value, rim in ((T.MUSCLE, 0), (T.FAT, sling)):
        canvas.tube(-99, 99, 0, (front + 12 + back) / 2, opened - rim, (front + 12 - back) / 2 - rim, value,
                    only=[T.FAT, T.MUSCLE])


def _paint_neighbours(canvas: _Canvas, rng: np.random.Generator, column: SimpleNamespace) -> None:
    """Paint pelvis, rectum, veins, bladder, seminal vesicles and penile bulb; what touches the column is even
    along its ends."""
    c, z, level = column, column.z, column.level
    pelvis = canvas.at(level)
    # Rectum: gas, stool and gel are one CONTENT of random contrast; low down it is the closed anal canal.
    rectum = rng.uniform(9, 17) * _smooth(level, np.sort(rng.uniform(-45, 50, 3)), rng.uniform(.75, 1.15, 3))
    rectum_x, rectum_y = c.x + rng.normal(0, 2), c.y - (c.b + c.b.max()) / 2 - rectum + rng.uniform(-1, 4)
    canal = rng.uniform(-45, -5)
    lumen = rectum * _smooth(level, (canal, canal + 15), (0, rng.uniform(.2, .9)))
    _paint_pelvis(pelvis, rng, c, (rectum_y - rectum).min() - 6)
    canvas.tube(-99, 99, rectum_x, rectum_y, rectum * rng.uniform(1, 1.3), rectum, T.WALL)
    canvas.tube(-99, 99, rectum_x, rectum_y, lumen * 1.1, lumen, T.CONTENT)
    # Venous plexus around the column, dorsal veins in front of it.
    canvas.tube(c.bottom, c.top, c.x, c.y + 2, c.a + c.plexus, c.b + c.plexus, T.VEIN, only=[T.FAT], bend=.2)
    pelvis.tube(rng.uniform(-50, -20), rng.uniform(-5, 25), c.x, c.y + c.b + 2, c.a * .7, rng.uniform(3, 7),
                T.VEIN, only=[T.FAT, T.MUSCLE])
    # Bladder: opens at column.top. In many patients a pouch hangs lower in front, even along the base.
    wall, full = rng.uniform(3, 7), rng.uniform(20, 38)
    spread = full * _smooth(z, (c.top, c.top + rng.uniform(8, 25)), (rng.uniform(.5, .8), 1))
    bladder_y = _smooth(z, (c.top, c.top + 25), (c.y[z < c.base][-1] + 3, c.front * .5 + rng.uniform(0, 10)))
    sections = [(c.top, bladder_y, spread, spread * rng.uniform(.5, .8))]
    if rng.random() < .75:
        pouch = full * rng.uniform(.5, .9) * _smooth(z, (c.base - 26, c.base - 10), (.3, 1))
        sections.append((c.base - rng.uniform(12, 28), c.front + wall + 8, pouch, rng.uniform(6, 10)))
    for value, grow in ((T.WALL, wall), (T.URINE, 0)):
        for low, y, a, b in sections:
            canvas.tube(low if low == c.top else low - grow, 99, c.x, y, a + grow, b + grow, value, bend=.15)
    for s in (-1, 1):
        # seminal vesicles, above the look-alike
        for turn in range(4):
            canvas.ball(s * (6 + 8 * turn) + rng.normal(0, 2), -c.front * .8 + rng.normal(2, 2) - turn,
                        c.top + 7 + 2 * turn,
                        8, rng.uniform(3, 6), 6, T.VESICLE, only=[T.FAT, T.WALL])
    canvas.ball(c.x[0], c.y[0] - 4, c.bottom - 10, rng.uniform(9, 14), rng.uniform(8, 12), 10, T.BULB)


def _paint_column(canvas: _Canvas, rng: np.random.Generator, column: SimpleNamespace) -> None:
    """Paint gland and look-alike in one go, so that their statistics agree; then give the look-alike its own
    tissue numbers."""
    c, z, bend = column, column.z, rng.uniform(.05, .35)
    ends = c.bottom, c.top

    # plane index and level of a random point, also just beyond the column, so that its ends hold no fewer
    def spot():
        level = rng.uniform(ends[0] - 6, ends[1] + 6)
        return np.searchsorted(z, level), level

    for value, rim in ((T.CAPSULE, 0), (T.PZ, rng.uniform(.6, 1.4))):
        canvas.tube(*ends, c.x, c.y, c.a - rim, c.b - rim, value, bend=bend)
    for value, rim in ((T.STROMA, 0), (T.TZ, rng.uniform(.4, 1.4))):    # the dark rim is the surgical capsule
        canvas.tube(*ends, c.x, c.core_y, c.core_a - rim, c.core_b - rim, value, only=[T.PZ, T.STROMA],
                    bend=bend * .3)
    for _ in range(rng.poisson(5 + 31 * c.large)):
        k, level = spot()
        x, y = c.x[k] + c.core_a[k] * rng.uniform(-.8, .8), c.core_y[k] + c.core_b[k] * rng.uniform(-.8, .7)
        radii = np.exp(rng.normal(1.2 + .4 * c.large, .35)) * rng.uniform(.8, 1.25, 3)
        canvas.ball(x, y, level, *radii, T.STROMA, only=[T.TZ, T.NODULE])
        canvas.ball(x, y, level, *(radii - .9), rng.choice([T.NODULE, T.NODULE, T.STROMA]), only=[T.STROMA])
    canvas.tube(*ends, c.x, c.y + c.b * .85, c.a * rng.uniform(.25, .5), c.b * rng.uniform(.1, .3), T.STROMA,
                only=[T.PZ, T.TZ, T.NODULE])
    canvas.tube(*ends, c.x, c.y + c.b * .1, 2.2, rng.uniform(1.2, 2.5), T.URETHRA, only=CENTRAL)
    for _ in range(rng.poisson(1)):
        (k, level), angle = spot(), rng.uniform(np.pi, 2 * np.pi)
        x, y = c.x[k] + .75 * c.a[k] * np.cos(angle), c.y[k] + .75 * c.b[k] * np.sin(angle)
        canvas.ball(x, y, level, *rng.uniform(2.5, 7, 3), T.LESION, only=[T.PZ])
    beyond = (z < c.apex) | (z > c.base)
    canvas.tissue[beyond] += _mark(GLAND, LIKE)[canvas.tissue[beyond]]


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Return int8 (Z, Y, X) noise, fine grains on coarse ones, 32 is one standard deviation: one block,
    repeated to save time."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((60, 88, 88), dtype=np.float32)
    fine, coarse = (gaussian_filter(noise, sd, mode="wrap") for sd in (.8, 2.5))
    block = fine / fine.std() + coarse / coarse.std()
    block = np.clip(block / block.std() * 32, -127, 127).astype(np.int8)
    return np.tile(block, (2, 3, 3))[:GRID[0], :GRID[1], :GRID[2]]


def make_anatomy(rng: np.random.Generator, ambiguous: bool = True) -> Anatomy:
    """Draw one patient from the numpy Generator `rng` and return the Anatomy: gland 22-95 ml, from normal to
    enlarged transition zone.

    The same state of `rng` gives the same tissues for the ambiguous phantom and its control; only `acquire`
    shows the difference.
    """
    canvas = _Canvas(rng)
    column = _draw_column(rng, canvas.z)
    _paint_neighbours(canvas, rng, column)
    _paint_column(canvas, rng, column)
    return Anatomy(canvas.tissue, _texture(rng), FINE, float(column.apex), float(column.base), ambiguous)


def _draw_contrast(rng: np.random.Generator, ambiguous: bool) -> np.ndarray:
    """Draw the tables T2, texture and ADC, float32 (3, TISSUES), of one patient and scanner."""
    t2, texture, adc = tables = np.zeros((3, TISSUES), np.float32)
    for tissue, (mean, spread, grain, adc_mean, adc_spread) in CONTRAST.items():
        t2[tissue] = mean * np.exp(rng.normal(0, spread))
        adc[tissue] = adc_mean * np.exp(rng.normal(0, adc_spread))
        texture[tissue] = grain * rng.uniform(.6, 1.4) / 32
    t2 **= np.float32(rng.uniform(.8, 1.2))
    alike = np.array(GLAND) + LIKE
    tables[:, alike] = tables[:, GLAND] if ambiguous else tables[:, [T.MUSCLE]] * np.float32(.7)
    return tables


def _resample(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return planes (N, Y, X), linear between voxels, at the fractional indices rows (H,) and columns (W,):
    (N, H, W)."""
    for axis, at in ((1, rows), (2, columns)):
        at = np.clip(at, 0, planes.shape[axis] - 1.001)
        i = at.astype(int)
        weight = (at - i).astype(np.float32)
        weight = weight[:, None] if axis == 1 else weight
        planes = planes.take(i, axis) * (1 - weight) + planes.take(i + 1, axis) * weight
    return planes


def _rician(rng: np.random.Generator, signal: np.ndarray, sd: float) -> np.ndarray:
    """Return the magnitude of `signal` under complex Gaussian noise of standard deviation sd (Gudbjartsson
    and Patz 1995)."""
    real = signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.sqrt(real * real + imaginary * imaginary)


def acquire(anatomy: Anatomy, rng: np.random.Generator, slices: int | None = None,
            spacing: tuple[float, float, float] | None = None, shape: tuple[int, int] | None = None,
            noise: float | None = None) -> Acquisition:
    """Scan `anatomy` with the numpy Generator `rng` and return an Acquisition.

    slices: S. spacing: mm (through-plane, row, column). shape: (H, W). noise: standard deviation, as a part
    of the T2 of fat. What is None is drawn as Task05 has it: 11 to 24 slices of 3 to 4 mm, mostly 320 x 320
    pixels of 0.625 mm. Raises InputError where the stack is thicker than the anatomy.
    """
    slices = int(slices or rng.choice(list(DEPTHS), p=np.array(list(DEPTHS.values())) / sum(DEPTHS.values())))
    side, pixel = ((320, .625), (320, .6), (256, .75))[rng.choice(3, p=(.8, .1, .1))]
    # few slices must be thick to cover the gland
    through = float(rng.choice([3, 3.3, 3.6, 3.6, 3.6, 4])) if slices > 15 else 4.0
    spacing, shape = spacing or (through, pixel, pixel), shape or (side, side)
    height = len(anatomy.tissue) * anatomy.spacing
    if slices < 1 or height < slices * spacing[0]:
        raise InputError(
            f"{slices} slices of {spacing[0]:g} mm exceed the {height:g} mm of a phantom; ask for fewer or "
            "thinner"
        )
    contrast = _draw_contrast(rng, anatomy.ambiguous)
    noise = rng.uniform(.015, .05) if noise is None else noise
    centres = _place_slices(anatomy, rng, slices, spacing[0])
    image, label, both = _measure_slices(anatomy, rng, contrast, centres, spacing, shape, noise)
    image[:, 0] = _receive(rng, image[:, 0], noise)
    affine = _place_in_scanner(rng, spacing, (slices, *shape))
    return Acquisition(image, label, both, tuple(spacing), centres, affine)


def _place_slices(anatomy: Anatomy, rng: np.random.Generator, slices: int, through: float) -> np.ndarray:
    """The point (z, y, x) in mm of the anatomy at the middle of each slice, (S, 3).

    The stack is centred on the gland, roughly, and shows both landmarks where it is long enough; the patient
    drifts in-plane.
    """
    centres = np.zeros((slices, 3))
    room = len(anatomy.tissue) * anatomy.spacing - slices * through
    reach = slices * through / 2 - LANDMARKS_IN_VIEW
    bounds = anatomy.base + BLADDER_ABOVE_BASE - reach, anatomy.apex - BULB_BELOW_APEX + reach
    if bounds[0] >= bounds[1]:  # too short a stack misses some of both
        bounds = [np.mean(bounds)] * 2
    middle = np.clip((anatomy.apex + anatomy.base) / 2 + rng.uniform(-7, 7), *bounds).clip(
        -room / 2, room / 2
    )
    centres[:, 0] = middle + (np.arange(slices) - (slices - 1) / 2) * through
    centres[:, 1:] = np.cumsum(rng.normal(0, .35, (slices, 2)), 0)
    centres[:, 1:] -= centres[:, 1:].mean(0)
    return centres


def _measure_slices(anatomy: Anatomy, rng: np.random.Generator, contrast: np.ndarray, centres: np.ndarray,
                    spacing: tuple[float, ...], shape: tuple[int, int],
                    noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (S, 2, H, W), the T2 still without noise; label (S, H, W); gland and look-alike together, bool
    (S, H, W).

    Each slice is the mean of the fine planes under its profile; the label is the majority of the fine truth
    over the slice thickness.
    """
    (t2, texture, adc), (through, row, column) = contrast, spacing
    (Z, Y, X), (H, W), slices = anatomy.tissue.shape, shape, len(centres)
    thickness = through * rng.uniform(.9, 1)  # some protocols leave a small gap
    stretch, slip = rng.normal(1, 0.01), rng.normal(0, 0.8)  # the ADC map is distorted along the rows
    z, y, x = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in ((Z, anatomy.spacing), (H, row), (W, column)))
    image = np.empty((slices, 2, H, W), np.float32)
    label, both = np.empty((slices, H, W), np.uint8), np.empty((slices, H, W), bool)
    peripheral, central, alike = _mark(PERIPHERAL), _mark(CENTRAL), _mark(np.array(GLAND) + LIKE)
    for s, (level, dy, dx) in enumerate(centres):
        away = np.abs(z - level)
        # a trapezoid, `thickness` wide at half its height
        profile = np.clip((thickness * 0.6 - away) / (thickness * 0.2), 0, 1)
        mean, truth = np.zeros((2, Y, X), np.float32), np.zeros((3, Y, X), np.uint8)
        for k in np.flatnonzero(profile):
            tissue = anatomy.tissue[k]
            weight = (texture.take(tissue) * anatomy.texture[k] + 1) * np.float32(profile[k] / profile.sum())
            mean[0] += t2.take(tissue) * weight
            mean[1] += adc.take(tissue) * weight
        within = np.flatnonzero(away <= through / 2)
        for k in within:
            for part, table in zip(truth, (peripheral, central, alike)):
                part += table.take(anatomy.tissue[k])
        rows, columns = (y + dy) / anatomy.spacing + (Y - 1) / 2, (x + dx) / anatomy.spacing + (X - 1) / 2
        image[s, 0] = _resample(mean[:1], rows, columns)[0]
        # ADC: pixels of 2 x 2 fine voxels with noise of their own, interpolated to the grid of the T2.
        coarse = _rician(rng, mean[1:].reshape(1, Y // 2, 2, X // 2, 2).mean((2, 4)), 2200 * noise)
        image[s, 1] = _resample(coarse, (rows * stretch + slip) / 2 - .25, columns / 2 - .25)[0]
        pz, tz, other = _resample(truth.astype(np.float32) / max(len(within), 1), rows, columns)
        label[s] = np.where(pz + tz >= .5, 1 + (tz > pz), 0)
        both[s] = pz + tz + other >= .5
    return image, label, both


def _receive(rng: np.random.Generator, t2: np.ndarray, noise: float) -> np.ndarray:
    """What the scanner makes of the T2 signal (S, H, W), in arbitrary units.

    A smooth coil field, brighter towards the skin in front and behind; one gain for each slice; noise.
    """
    slices, H, W = t2.shape
    r, c = np.linspace(-1, 1, H, dtype=np.float32)[:, None], np.linspace(-1, 1, W, dtype=np.float32)
    p = rng.normal((0, 0, 0, .25, 0), .15).astype(np.float32)
    field = np.exp(p[0] * r + p[1] * c + p[2] * r * c + p[3] * r * r + p[4] * c * c)
    gain = np.exp(rng.normal(0, .04, (slices, 1, 1))).astype(np.float32)
    return _rician(rng, t2 * field * gain, noise) * np.float32(rng.uniform(250, 900))


def _place_in_scanner(
    rng: np.random.Generator, spacing: tuple[float, ...], shape: tuple[int, int, int]
) -> np.ndarray:
    """An affine (4, 4) from voxel (x, y, z) to mm for a stack of `shape` (S, H, W), tilted about the
    left-right axis."""
    (through, row, column), (slices, H, W) = spacing, shape
    tilt = np.deg2rad(rng.uniform(0, 20))
    affine = np.eye(4)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    affine[:3, :3] = turn * (column, row, through)
    affine[:3, 3] = rng.normal(0, 10, 3) - (affine[:3, :3] * (np.array([W, H, slices]) - 1) / 2).sum(1)
    return affine


def _write(path: Path, array: np.ndarray, affine: np.ndarray, name: str) -> None:
    """Write (X, Y, Z) or (X, Y, Z, C) as compressed NIfTI, whole or not at all; without time stamp, so equal
    content gives equal bytes."""
    import nibabel

    nifti = nibabel.Nifti1Image(array, affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header.set_dim_info(slice=2)
    nifti.header["descrip"] = name
    nifti.set_qform(affine, 1)
    nifti.set_sform(affine, 1)
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(nifti.to_bytes(), 1, mtime=0))


def _is_written(path: Path, name: str) -> bool:
    """True if `path` is the finished phantom `name`, False if there is no file.

    Raises InputError if it is something else, or damaged.
    """
    if not path.exists():
        return False
    try:
        description = read_nifti(path)[0].header["descrip"].item().decode(errors="replace")
    except InputError as error:
        raise InputError(
            f"{path}: is not a readable image ({error}); delete it or choose another folder"
        ) from error
    if description != name:
        raise InputError(f"{path}: is not the {name}; choose another folder or delete this one")
    return True


def _check_folder(folder: Path, settings: dict[str, object]) -> None:
    """Raise InputError unless `folder` is new, empty, or holds phantoms of the same settings."""
    listing = folder / "dataset.json"
    try:
        names = {p.name for p in folder.iterdir() if not p.name.startswith(".")} if folder.exists() else set()
        stored = (
            json.loads(listing.read_text(encoding="utf-8")).get("phantom") if listing.exists() else settings
        )
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder}: is not a folder of phantoms ({type(error).__name__}); choose another folder"
        ) from error
    if stored != settings or not names <= {"dataset.json", "imagesTr", "labelsTr"}:
        raise InputError(
            f"{folder}: holds something other than phantoms of these settings; choose another folder or "
            "delete this one"
        )


def write_phantoms(folder: str | Path, count: int = 32, seed: int = 0, ambiguous: bool = True,
                   progress: bool = True) -> Path:
    """Write `count` phantoms into `folder` in the Decathlon layout and return the folder as a Path.

    Volume k has its own generator, of (seed, k), so it does not depend on `count`. The same seed gives the
    same bytes with the same library versions. Finished volumes are kept: an interrupted run goes on where it
    stopped, a larger `count` adds volumes. dataset.json comes last, lists exactly `count` volumes, and keeps
    the settings under "phantom". Images are int16 (X, Y, Z, 2), labels uint8 (X, Y, Z), as at
    medicaldecathlon.com. Raises InputError for an impossible count or seed, or where the folder holds
    anything else than these phantoms.
    """
    folder = Path(folder).expanduser()
    if count < 1 or seed < 0:
        raise InputError(
            f"{count} phantoms of seed {seed} cannot be made; ask for at least 1, and for a seed of 0 or more"
        )
    settings = {"version": VERSION, "seed": int(seed), "ambiguous": bool(ambiguous)}
    _check_folder(folder, settings)
    numbers, training = range(count), []
    for k in progress_bar(numbers, desc="phantoms", unit="volume", disable=not progress):
        name = (
            f"csam_lite phantom v{VERSION} seed {seed} {'ambiguous' if ambiguous else 'control'} volume {k}"
        )
        image, label = (f"./{kind}/prostate_{k:02d}.nii.gz" for kind in ("imagesTr", "labelsTr"))
        training.append({"image": image, "label": label})
        if _is_written(folder / image, name) and _is_written(folder / label, name):
            continue
        rng = np.random.default_rng([seed, k])
        scan = acquire(make_anatomy(rng, ambiguous), rng)
        _write(
            folder / image,
            np.rint(scan.image.clip(0, 32767)).astype(np.int16).transpose(3, 2, 0, 1),
            scan.affine,
            name,
        )
        _write(folder / label, scan.label.transpose(2, 1, 0), scan.affine, name)
    dataset = {
        "name": "CSAM Lite phantom",
        "description": "Synthetic prostate MRI in the layout of MSD Task05_Prostate",
        "reference": "csam_lite.phantom",
        "licence": "CC0 1.0",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": count,
        "numTest": 0,
        "training": training,
        "test": [],
        "phantom": settings,
    }
    with whole_file(folder / "dataset.json") as part:
        part.write_text(json.dumps(dataset, indent=1) + "\n", encoding="utf-8")
    return folder
