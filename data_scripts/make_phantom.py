"""Make a set of phantoms (made volumes, no patient): a Decathlon folder to try everything without a
download."""

import sys

from csam_lite.data.phantom import write_phantoms

from common import options, run


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__, "data/phantom", download=False)
    parser.add_argument("--volumes", type=int, default=32, help="number of volumes (default 32)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same volumes (default 0)"
    )
    parser.add_argument(
        "--control", action="store_true", help="the control set, without slices that need their neighbours"
    )
    args = parser.parse_args(argv)
    return run(
        write_phantoms,
        folder=args.out,
        count=args.volumes,
        seed=args.seed,
        ambiguous=not args.control,
        progress=True,
    )


if __name__ == "__main__":
    sys.exit(main())
