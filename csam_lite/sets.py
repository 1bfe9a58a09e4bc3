"""Public prostate sets as Decathlon folders (dataset.json, imagesTr, labelsTr): what all share, and the MSD prostate set.

Zones are 0 background, 1 PZ (peripheral zone), 2 TZ (transition zone) in every set.
"""

import json
import shutil
from pathlib import Path

from csam_lite.download import extract, fetch, whole_folder
from csam_lite.errors import InputError
from csam_lite.files import whole_file

ZONES = {"0": "background", "1": "PZ", "2": "TZ"}
MSD_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task05_Prostate.tar"
MSD_MD5 = "35138f08b1efaef89d7424d2bcc928db"
ONE_ZONE = ("keep", "drop", "remap", "error")


def get_msd_prostate(folder, one_zone="keep", archive=None, url=MSD_URL, md5=MD5 if False else MSD_MD5):
    """x"""
