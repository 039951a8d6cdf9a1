"""What a cluster needs of this checkout: the package as a zip, and the environment as an archive."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from crossweave.runtime.process import start

DIST = Path(__file__).resolve().parents[1] / "dist"


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.packing import write_package

    parser = argparse.ArgumentParser(prog="submit.sh pack")
    parser.add_argument("--without-environment", action="store_true", help="only the package, for --py-files")
    words = parser.parse_args(arguments)
    package = write_package(DIST / "crossweave.zip")
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB, for --py-files")
    return 0


if __name__ == "__main__":
    start(main, print)
