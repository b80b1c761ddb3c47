"""Count the words of all text files below a folder, one job a file: python count.py FOLDER"""

import sys
import time
import uuid
from pathlib import Path

from holdfast import Holdfast

hf = Holdfast()


@hf.job(queue="words", timeout=60)
def count_words(path: str) -> int:
    time.sleep(0.1)  # so that there is something to kill
    return len(Path(path).read_text(errors="replace").split())


def job_id(path: Path) -> uuid.UUID:
    """The same file gives the same id, and enqueueing an id twice is one job: so the script may be started again."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"words:{path}:{path.stat().st_mtime_ns}")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    paths = sorted(folder.rglob("*.txt"))
    if not paths:
        sys.exit(f"there is no *.txt below {folder}")
    jobs = hf.enqueue_many_sync(count_words.options(id=job_id(path)).prepare(str(path)) for path in paths)
    total = 0
    for done, job in enumerate(jobs, 1):
        total += job.result_sync()
        print(f"{done} of {len(jobs)} files, {total:,} words", flush=True)
    hf.close_sync()


if __name__ == "__main__":
    main()
