"""Kills whole runs and single scripts at random moments, gives the same command again, and compares all that is written
with what an uninterrupted run wrote.

A run: `run_all.sh --preset smoke`, with --jobs 1 and 2, and with --tune. Signals: SIGKILL, SIGTERM, SIGINT; to the
command alone, to its process group, to all of its processes, and to one step alone, as a machine without memory does.
Moments: after a random part of an uninterrupted run's time, or when a file of a kind first shows (a partial folder, a
checkpoint, a record). Several kills in a row hit one run before it may end.

A kill holds if the command ends, without a traceback, nothing of it is left alive (after SIGKILL of the command alone
its steps may end their work, and hold the lock as long), and the run that was continued ends with status 0, the same
contents, no lock and no scraps.
"""

import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from faults import EACH, REFUSES, Shop, Tally, content, differences, flags, scraps, unlocked, wait_for, words_of

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
SHOWS = (
    ".partial",
    "checkpoint.tmp",
    "checkpoint.pt",
    ".old",
    "training.json",
    ".unfinished",
    ".safetensors",
    ".jsonl",
    ".json",
    ".md",
    "generation.json",
    ".steps/",
)
SMOKE = ("--preset", "smoke", "--run", "t")


class Trial:
    """One command, which can be begun any number of times, and what it writes."""

    def __init__(self, shop, name, words):
        self.shop, self.name, self.run = shop, name, name.startswith("run_all")
        self.words, self.places = words, [shop.folder / ("work" if self.run else "o")]

    def begin(self):
        begin = self.shop.run_all if self.run else self.shop.script
        return begin(*self.words)

    def clear(self):
        for place in self.places:
            shutil.rmtree(place, ignore_errors=True)
        if not self.run:
            self.places[0].mkdir()

    def whole(self):
        """Runs it undisturbed, from nothing: the contents to compare with, and its seconds."""
        self.clear()
        began = time.monotonic()
        done = self.begin().end(900)
        assert done.status == 0, f"{self.name}: {done.out[-500:]}{done.err[-2000:]}"
        self.seconds, self.wanted = time.monotonic() - began, content(*self.places)
        return self


def shown(trial, mark, since):
    """Has a file or folder with this mark in its name changed since then?"""
    for place in trial.places:
        for path in place.rglob("*"):
            try:
                if mark in f"{path.parent.name}/{path.name}" and path.lstat().st_ctime >= since:
                    return True
            except OSError:  # renamed meanwhile
                continue
    return False


def in_pythons_start(text, folder):
    """Was Python interrupted before any line of ours but imports of its own library? Nothing of ours can catch that."""
    ours = re.findall(rf'File "{folder}[^"]*", line \d+, in \S+\n\s*(.*)', text)
    imports = all(line.startswith(("from ", "import ")) for line in ours)
    return "KeyboardInterrupt" in text and imports and "site-packages" not in text


def kill(trial, rng, part):
    """Begins the command and kills it → (what was done, what was wrong with how it ended), or None: it ended before."""
    number, wrong = getattr(signal, rng.choice(SIGNALS)), []
    target = rng.choice(("alone", "group", "all", "step")) if trial.run else rng.choice(("alone", "alone", "group"))
    number = signal.SIGKILL if target == "step" else number
    mark = rng.choice(SHOWS) if rng.random() < 0.5 else None
    after, command, began = rng.uniform(0, part * trial.seconds), trial.begin(), time.time()
    if mark:
        pause = rng.choice((0, 0, rng.uniform(0, 0.03)))
        wait_for(lambda: not command.running() or shown(trial, mark, began), 2 * after)
        time.sleep(pause)
    else:
        wait_for(lambda: not command.running(), after)
    if not command.running():
        command.end(10)
        return None
    if target == "step" and not wait_for(lambda: command.steps() or not command.running(), 10):
        target = "all"
    command.send(number, target)
    what = f"{number.name} to {target} {f'at sight of {mark}' if mark else f'after {time.time() - began:.1f} s'}"
    if not wait_for(lambda: not command.running(), 30):
        wrong.append("does not end")
    alone = trial.run and number == signal.SIGKILL and target in ("alone", "group")  # its steps go on, in their groups
    if alone and command.left() and unlocked(trial.places[0] / "t"):
        time.sleep(0.2)  # it may have ended in between
        if command.left() and unlocked(trial.places[0] / "t"):
            wrong.append("steps go on without the lock")
    if not wait_for(lambda: not command.left() and trial.shop.quiet(), 120 if alone else 10):
        wrong.append(f"left alive: {command.left()}")
        command.kill()
    done = command.end(10)
    if done.status == 0:
        return None  # it was at its end
    if "Traceback (most recent call last)" in done.out + done.err and not in_pythons_start(done.err, trial.shop.folder):
        wrong.append("traceback")
    if wrong:
        wrong.append(done.err[-300:])
    return what, wrong


def chain(trial, kills, rng, tally):
    """Some kills one after the other, then the end: each holds if that is as `whole` says."""
    trial.clear()
    done, late, part = [], 0, 1 if kills == 1 else 2 / kills
    while len(done) < kills and late < 3:
        if found := kill(trial, rng, part):
            done.append(found)
            continue
        late += 1  # it ended first: what is there must be whole; again from nothing
        compare(trial, done, tally)
        kills, done = kills - len(done), []
        trial.clear()
    if done:
        compare(trial, done, tally)


def compare(trial, kills, tally):
    last, wrong = trial.begin().end(900), []
    if last.status:
        wrong.append(f"status {last.status} when continued")
    if not wrong and (other := differences(trial.wanted, content(*trial.places))):
        wrong.append(f"other contents: {' '.join(str(Path(name).relative_to(trial.shop.folder)) for name in other)}")
    if left := scraps(*trial.places):
        wrong.append(f"left behind: {' '.join(left)}")
    if trial.run and not unlocked(trial.places[0] / "t"):
        wrong.append("locked")
    for what, its in kills:
        tally.add(trial.name, what, its + wrong, last.err if wrong else "")


def trials(shop, only, tune, hollow):
    """Every command that is killed: whole runs, then single scripts."""
    if not hollow:
        shop.stock()
    for flags_ in (
        ("--methods", "NPO+GDR ReLearn"),
        ("--methods", "GA+KLR MEOW", "--metrics", "robustness"),
        *([("--methods", "GA+GDR", "--tune", "1e-4 1e-3")] if tune else []),
    ):
        for jobs in ("1", "2"):
            name = f"run_all {' '.join(flags_)} --jobs {jobs}"
            if only in name:
                yield name, [*SMOKE, *flags_, "--jobs", jobs]
    for script in EACH:
        if not hollow and only in script and script not in REFUSES:
            yield script, words_of(script, "o/out")


if __name__ == "__main__":
    args, rng = flags(
        __doc__,
        60,
        chain=(4, "kills in a row of one run (default: 4)"),
        tune=(0, "1: runs with --tune too; whole only with --cold, as its trials start on a Python of their own"),
    )
    tally = Tally()
    with Shop(args.cold, args.hollow) as shop:
        found = list(trials(shop, args.only, args.tune, args.hollow))
        runs, scripts = ([one for one in found if one[0].startswith("run_all") == whole] for whole in (True, False))
        rng.shuffle(scripts)
        half = args.count // 2 if runs and scripts else args.count  # as many kills of whole runs as of single scripts
        for group, until, length in ((runs, half, args.chain), (scripts, args.count, 2)):
            known = {}
            for turn in range(10 * args.count):
                wanted = until - sum(tally.tried.values())
                if wanted <= 0 or not group:
                    break
                name, words = group[turn % len(group)]
                known[name] = known.get(name) or Trial(shop, name, words).whole()
                chain(known[name], min(length, wanted), random.Random(f"{args.seed} {name} {turn}"), tally)
    sys.exit(tally.told())
