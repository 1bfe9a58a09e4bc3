"""Get the prostate set of the Medical Segmentation Decathlon (Task05): 32 cases, T2 and ADC, 0 background, 1
PZ, 2 TZ.

229 MB; medicaldecathlon.com, Radboud University Medical Center, licence CC BY-SA 4.0. Run it again at any
time: what is there is not downloaded again, and --one-zone can be changed.
"""

import sys

from csam_lite.data.labels import ONE_ZONE
from csam_lite.data.public_sets import get_msd_prostate

from common import options, run


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__, "data/Task05_Prostate")
    parser.add_argument(
        "--one-zone",
        choices=ONE_ZONE,
        default="keep",
        help="cases that do not have both zones: keep them and warn (default), drop them from dataset.json, "
             "remap class 1 "
        "to 2 where it stands alone (the published label is kept), or end with an error after the set-up",
    )
    args = parser.parse_args(argv)
    return run(
        get_msd_prostate,
        folder=args.out,
        one_zone=args.one_zone,
        archive=args.archive,
        url=args.url,
        md5=args.md5,
    )


if __name__ == "__main__":
    sys.exit(main())
