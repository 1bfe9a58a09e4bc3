"""Synthetic prostate MRI with known truth, written as a Decathlon folder like MSD Task05 (T2 and ADC; 0 background, 1 PZ, 2 TZ).

Anatomy comes first, as tissue numbers on a fine isotropic grid; `acquire` then turns it into thick slices, as a scanner does.

The gland is the middle part of a longer column. Below the apex the column goes on as membranous urethra and sphincter, above the base
as bladder neck and seminal vesicles, with the same outline, tissues, texture and contrast. So no single slice near an end tells
gland from look-alike. The stack of slices does tell: the bladder opens BLADDER_ABOVE_BASE mm above the base, and the penile bulb
begins BULB_BELOW_APEX mm below the apex. The control phantom (ambiguous=False) differs in one thing: its look-alikes are dark like muscle.

Not modelled: the physics of the pulse sequence (contrast is a table, drawn at random), diffusion weighted images behind the ADC map,
cancer as it grows (a lesion is an ellipsoid in the PZ), the central zone, breathing and bowel ghosts, implants, endorectal coils,
and the correlations between organs that a population has. A score on phantoms says what a method can do, not how good it is on patients.
"""

import gzip
import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from csam_lite.errors import InputError
from csam_lite.files import whole_file

FINE = 0.8                                        # mm, the isotropic grid of the anatomy
GRID = (120, 260, 260)                            # its planes (Z), rows (Y) and columns (X): 96 x 208 x 208 mm
BLADDER_ABOVE_BASE, BULB_BELOW_APEX = 7.0, 10.5   # mm, the two landmarks that fix the ends of the gland
DEPTHS = {11: 1, 15: 6, 18: 2, 19: 1, 20: 20, 22: 1, 24: 1}  # slices of the Task05 training cases: how many cases have them
VERSION = 1                                       # raise it when the same seed gives other bytes: older folders are then refused


class Tissue(IntEnum):
    """Tissue numbers of the fine grid. PZ to URETHRA make up the gland; LIKE + such a number is the same tissue of a look-alike."""

    FAT, AIR, MUSCLE, MARROW, CORTEX, URINE, WALL, CONTENT, VEIN, VESSEL, VESICLE, BULB = range(12)
    PZ, LESION, CAPSULE, TZ, NODULE, STROMA, URETHRA = range(12, 19)
    LIKE = 16


T = Tissue
TISSUES = T.URETHRA + T.LIKE + 1
# Mean T2 (fat = 1), its spread between patients (log), texture (part of the mean), mean ADC (1e-6 mm2/s), its spread (log).
CONTRAST = {
    T.FAT: (1.00, .12, .10, 60, .5), T.AIR: (.02, .1, 0, 0, 0), T.MUSCLE: (.20, .12, .18, 1150, .08), T.MARROW: (.62, .2, .12, 250, .4),
    T.CORTEX: (.06, .3, .1, 30, .3), T.URINE: (1.35, .25, .02, 2800, .06), T.WALL: (.32, .15, .15, 1250, .08),
    T.CONTENT: (.30, .9, .35, 700, .6), T.VEIN: (.85, .2, .40, 1300, .15), T.VESSEL: (.15, .6, .2, 900, .5),
    T.VESICLE: (.85, .25, .45, 1600, .1), T.BULB: (1.05, .1, .12, 1500, .1),
    T.PZ: (.86, .22, .20, 1650, .10), T.LESION: (.42, .15, .12, 900, .15), T.CAPSULE: (.38, .2, .1, 1200, .1), T.TZ: (.50, .15, .22, 1280, .08),
    T.NODULE: (.72, .2, .30, 1450, .1), T.STROMA: (.33, .12, .2, 1020, .1), T.URETHRA: (.70, .3, .15, 1450, .1)}
