"""What a cluster needs of this checkout: the package as a zip, and the environment as an archive."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from crossweave.runtime.process import start

DIST = Path(__file__).resolve().parents[1] / "dist"


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.packed_environment import python_of_nodes, write_environment
    from crossweave.runtime.packing import write_package

    parser = argparse.ArgumentParser(prog="submit.sh pack", allow_abbrev=False)
    parser.add_argument("--without-environment", action="store_true", help="only the package, for --py-files")
    parser.add_argument("--without-cuda", action="store_true", help="leave NVIDIA's libraries out: CPU nodes")
    parser.add_argument(
        "--compress", action="store_true", help="a smaller archive that takes longer to write and to unpack"
    )
    words = parser.parse_args(arguments)
    print(told(write_package(DIST / "crossweave.zip"), "--py-files"))
    if not words.without_environment:
        since, target = time.monotonic(), DIST / "environment.tar.gz"
        print(told(write_environment(target, not words.without_cuda, words.compress), "--archives"), end="")
        print(f", packed in {time.monotonic() - since:.0f} s; every node needs {python_of_nodes()}")
    return 0


def told(path: Path, option: str) -> str:
    return f"{path}: {path.stat().st_size / 1e6:,.1f} MB, for {option}"


if __name__ == "__main__":
    start(main, print)
