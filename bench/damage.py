"""Damages a finished run, gives the same command again, and compares all that is written with what was there; and
fills, locks and takes away the disk that a command writes to.

Files: one file of a finished `run_all.sh --preset smoke` is cut, emptied, deleted, or replaced by rubbish, by JSON of
another kind, by a folder or by a link that leads nowhere; or a folder of it is deleted. It holds if the same command
makes it again and ends with the same contents, or ends with status 2 and one line.

Disks (for the superuser): a small tmpfs on which a run or a script writes, which grows then; one that is read-only; one
that is taken away in the middle and comes back. It holds if the first command ends with one line and status 2, and the
same command then with status 0 and the same contents.
"""

import os
import random
import shutil
import subprocess
import sys
import time

from faults import EACH, REFUSES, Shop, Tally, content, differences, faults_of, flags, scraps, wait_for, words_of

RUN = ("--preset", "smoke", "--run", "t", "--methods", "NPO+GDR ReLearn")
ALONE = (
    "scripts/00_models.py",
    "scripts/01_data.py",
    "scripts/03_augment.py",
    "scripts/11_npo.py",
    "scripts/20_uipe.py",
    "scripts/30_generate.py",
    "scripts/40_in_out.py",
    "scripts/50_export.py",
    "eval/01_kfr_krr.py",
    "eval/09_report.py",
    "eval/11_mechanism.py",
)

DAMAGES = {  # name: what it does to a file
    "cut": lambda path, rng: os.truncate(path, rng.randrange(max(1, path.stat().st_size))),
    "emptied": lambda path, rng: os.truncate(path, 0),
    "deleted": lambda path, rng: path.unlink(),
    "rubbish": lambda path, rng: path.write_bytes(rng.randbytes(path.stat().st_size or 9)),
    "other json": lambda path, rng: path.write_text(rng.choice(("[]", "{}", "3", "null", '"x"'))),
    "a folder": lambda path, rng: (path.unlink(), path.mkdir()),
    "a link to nowhere": lambda path, rng: (path.unlink(), path.symlink_to("nowhere")),
    "its folder deleted": lambda path, rng: shutil.rmtree(path.parent),
}


def copy(source, target):
    """A folder with its dates, in place of another."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def files(shop, args, rng, tally):
    """Damages `count` files, each of another copy of one finished run."""
    run, kept = shop.folder / "work/t", shop.folder / "kept"
    first = shop.run_all(*RUN).end(900)
    assert first.status == 0, first.err
    wanted = content(run)
    copy(run, kept)
    paths = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.name != ".lock")
    paths = [path for path in paths if args.only in str(path)]
    rng.shuffle(paths)
    for number in range(args.count):
        path, name = paths[number % len(paths)], rng.choice(list(DAMAGES))
        copy(kept, run)
        DAMAGES[name](run / path, rng)
        done = shop.run_all(*RUN).end(900)
        wrong = faults_of(done)
        if not done.status and (other := differences(wanted, content(run))):
            wrong.append(f"other contents: {' '.join(other)}")
        if not done.status and (left := scraps(run)):
            wrong.append(f"left behind: {' '.join(left)}")
        tally.add(f"file {name}", f"{path}", wrong, done.err)


# ---------------------------------------------------------------- disks


def mount(folder, *words):
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *words, folder], check=True)


def unmount(folder):
    subprocess.run(["umount", "-l", folder], check=True)


class Disk:
    """What one command writes to a folder that is a disk of its own, and what it should write."""

    def __init__(self, shop, name, words):
        self.shop, self.name, self.words = shop, name, words
        self.whole = name == "run_all"
        self.folder = shop.folder / ("work" if self.whole else "o")

    def begin(self):
        return (self.shop.run_all if self.whole else self.shop.script)(*self.words)

    def undisturbed(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        began = time.monotonic()
        done = self.begin().end(900)
        assert done.status == 0, done.err
        self.seconds, self.wanted = time.monotonic() - began, content(self.folder)
        self.size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        shutil.rmtree(self.folder)
        return self

    def judge(self, kind, what, first, tally, must=True):
        """Of the command on the bad disk, and of the same command on the good one.

        Args:
            must: False where the first command may have ended before the disk was bad.
        """
        wrong = faults_of(first, refused=must)
        last = self.begin().end(900)
        if last.status:
            wrong.append(f"status {last.status} on the good disk: {last.err[-300:]}")
        elif other := differences(self.wanted, content(self.folder)):
            wrong.append(f"other contents: {' '.join(other)}")
        elif left := scraps(self.folder):
            wrong.append(f"left behind: {' '.join(left)}")
        tally.add(f"disk {kind}", f"{self.name} {what}", wrong, first.err)

    def full(self, rng, tally):
        share = rng.uniform(0.02, 0.95)
        mount(self.folder, "-t", "tmpfs", "-o", f"size={max(4096, int(share * self.size))}", "none")
        try:
            first = self.begin().end(300)
            subprocess.run(["mount", "-o", "remount,size=1g", self.folder], check=True)
            self.judge("full", f"at {share:.0%} of {self.size / 1e6:.1f} MB", first, tally, must=share < 0.5)
        finally:
            unmount(self.folder)

    def read_only(self, rng, tally):
        half = rng.random() < 0.5
        mount(self.folder, "-t", "tmpfs", "none")
        try:
            if half:
                command = self.begin()
                wait_for(lambda: not command.running(), rng.uniform(0, self.seconds))
                command.kill()
                command.end(10)
            subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)
            first = self.begin().end(300)
            subprocess.run(["mount", "-o", "remount,rw", self.folder], check=True)
            self.judge("read-only", "half made" if half else "from nothing", first, tally)
        finally:
            unmount(self.folder)

    def vanished(self, rng, tally):
        store = self.shop.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        mount(self.folder, "--bind", store)
        command, after = self.begin(), rng.uniform(0.1, 0.9) * self.seconds
        wait_for(lambda: not command.running(), after)
        unmount(self.folder)
        first = command.end(300)
        below = list(self.folder.rglob("*"))  # what was written where the disk had been
        shutil.rmtree(self.folder, ignore_errors=True)
        mount(self.folder, "--bind", store)
        try:
            self.judge("vanished", f"after {after:.1f} s ({len(below)} files below)", first, tally, must=False)
        finally:
            unmount(self.folder)


def disks(shop, args, rng, tally):
    if not args.hollow:
        shop.stock()
    found = [("run_all", [*RUN, "--jobs", jobs]) for jobs in ("1", "2")]
    found += [(script, words_of(script, "o/out")) for script in ALONE if not args.hollow]
    found = [one for one in found if args.only in one[0]]
    known = {}
    for number in range(args.disks):
        name, words = found[number % len(found)]
        disk = known[tuple(words)] = known.get(tuple(words)) or Disk(shop, name, words).undisturbed()
        kind = ("full", "read_only", "vanished")[(number // len(found) + number) % 3]
        getattr(disk, kind)(random.Random(f"{args.seed} {number}"), tally)


if __name__ == "__main__":
    assert set(ALONE) <= set(EACH) - set(REFUSES)
    args, rng = flags(__doc__, 60, disks=(39, "trials of disks, 0 for none (default: 39)"))
    tally = Tally()
    with Shop(args.cold, args.hollow) as shop:
        if args.count:
            files(shop, args, rng, tally)
        if args.disks and os.geteuid():
            print("disks are left out: only the superuser can mount one", file=sys.stderr)
        elif args.disks:
            disks(shop, args, rng, tally)
    sys.exit(tally.told())
