"""Weeks in half an hour: sessions that come, upload, share, crash and go, and what the server holds meanwhile.

``python -m benchmarks.soak`` ends with 1 if anything went wrong, if memory still grows after the first part, or if
threads, processes, open files or files are left when everybody has gone.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from scipy import stats
from torch import nn
from websockets.exceptions import WebSocketException

import sample_models
from benchmarks.browser_session import Session, opened
from benchmarks.load import METHODS
from tests.conftest import find_errors, running_app
from tests.model_files import archived
from tests.picture_files import save

#: How long a person looks at something, in seconds, on average; how often memory is noted.
THINK, BEAT = 1.0, 2.0

#: Which share of the time passes before memory has to be flat, and the shortest of it in which a slope says anything.
RISE = 1 / 6

PICTURES, MODEL = "Add your images", "Model file"


_exporting = threading.Lock()


@dataclass
class Held:
    """What the server and its children hold at one moment: memory in MiB, and counts."""

    seconds: float
    memory: float
    processes: int
    threads: int
    files: int
    folders: int


@dataclass
class Visits:
    """What people did, and what went wrong."""

    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@dataclass
class Visitor:
    """Somebody who comes again and again, each time in a new session, until the time is over."""

    visits: Visits
    address: str
    until: float
    chance: random.Random

    def come(self) -> None:
        """Visit after visit."""
        kinds = [self.browse, self.bring_pictures, self.bring_pictures, self.bring_model, self.bring_rubbish]
        while time.monotonic() < self.until:
            visit = self.chance.choice(kinds)
            try:
                visit()
            except (WebSocketException, OSError, RuntimeError, KeyError) as error:
                self.visits.errors.append(f"{visit.__name__}: {type(error).__name__}: {error}")
            self.visits.done[visit.__name__] += 1
            time.sleep(self.chance.uniform(0, THINK))

    def leave(self, session: Session) -> None:
        """Close the page, or lose the network in the middle of a run."""
        if self.chance.random() < 0.3:
            with suppress(KeyError):
                session.click("next")
            session.socket.socket.close()
            self.visits.done["network lost"] += 1

    def browse(self) -> None:
        """Look at some pictures of a sample model."""
        model = self.chance.choice([*sample_models.models()])
        method = self.chance.choice(["Grad-CAM", "Gradient", METHODS["integrated-gradients"]])
        with opened(self.address, model=model, methods=[method]) as session:
            for _ in range(self.chance.randint(1, 4)):
                session.settle()
                time.sleep(self.chance.uniform(0, THINK))
                session.click("next")
            self.leave(session)

    def bring_pictures(self) -> None:
        """Upload pictures nobody has seen before, look at them, perhaps share them."""
        with opened(self.address, model=self.chance.choice(["digits", "lesions-biased"])) as session:
            session.settle()
            for number in range(self.chance.randint(1, 3)):
                session.upload(self.address, PICTURES, f"{number}.png", draw(self.chance))
                session.settle()
            if self.chance.random() < 0.5:
                session.click("share_pictures")
                session.settle()
            session.click("next")
            session.settle()
            self.leave(session)

    def bring_model(self) -> None:
        """Upload a model, test it, use it."""
        with opened(self.address, "model") as session:
            session.settle()
            session.upload(self.address, MODEL, "net.pt2", make_network(self.chance))
            session.settle()
            session.click("Test this model")
            session.settle()
            if self.chance.random() < 0.7:
                session.click("Use this model")
                session.settle()
            self.leave(session)

    def bring_rubbish(self) -> None:
        """Upload a file that cannot be read, as a picture or as a model."""
        rubbish = b"\x89PNG\r\n\x1a\n" + self.chance.randbytes(200_000)
        with opened(self.address, "model") as session:
            session.settle()
            session.upload(self.address, self.chance.choice([PICTURES, MODEL]), "rubbish.png", rubbish)
            with suppress(RuntimeError):  # the sentence that says so
                session.settle()
            session.errors.clear()
            self.leave(session)


def draw(chance: random.Random) -> bytes:
    """A picture of its own."""
    pixels = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, (32, 32, 3), np.uint8)
    return save(Image.fromarray(pixels).resize((512, 512)), "PNG")


def make_network(chance: random.Random) -> bytes:
    """A model of its own."""
    with _exporting:  # torch exports one network at a time
        torch.manual_seed(chance.randrange(2**32))
        layers = (nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return archived(nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 4)).eval(), torch.zeros(2, 3, 64, 64))


def look(server: psutil.Process, start: float) -> Held:
    """Note what the server and its children hold; a child that ends meanwhile holds nothing."""
    held = Held(time.monotonic() - start, 0, 0, 0, 0, len(leftovers()))
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.Error):  # and no child of before, whose number another has by now
            held.memory += process.memory_info().rss / 2**20
            held.threads += process.num_threads()
            held.files += process.num_fds()
            held.processes += 1
    return held


def leftovers() -> list[Path]:
    """The files of sessions, wherever a server puts them."""
    places = (
        place for name in ("/dev/shm", tempfile.gettempdir()) for place in Path(name).glob("*lightbox*/private-*")
    )
    return [Path(folder, file) for place in places for folder, _, files in os.walk(place) for file in files]


def watch(server: psutil.Process, samples: list[Held], over: threading.Event) -> None:
    """Note what the server holds, until it is over."""
    start = time.monotonic()
    while not over.wait(BEAT):
        samples.append(look(server, start))


def find_slope(samples: list[Held]) -> tuple[float, float, float]:
    """The slope of memory over time in MiB an hour with its 95 % interval (Theil and Sen), of the least of a minute."""
    minutes: dict[int, list[float]] = {}
    for one in samples:
        minutes.setdefault(int(one.seconds // 60), []).append(one.memory)
    found = stats.theilslopes([min(held) for held in minutes.values()], [minute / 60 for minute in minutes])
    return float(found.slope), float(found.low_slope), float(found.high_slope)


def main() -> None:
    """Run everything and end with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of what the visitors do")
    given = parser.parse_args()
    visits, samples, over = Visits(), list[Held](), threading.Event()
    before = set(leftovers())
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        with running_app(Path(name), traced=False, LIGHTBOX_MEMORY=str(2**28)) as address:
            server = next(child for child in psutil.Process().children() if "streamlit" in child.cmdline())
            with opened(address) as session:  # so that every model is traced and every worker is there
                session.settle()
            watcher = threading.Thread(target=watch, args=(server, samples, over))
            watcher.start()
            until = time.monotonic() + 60 * given.minutes
            visitors = [
                Visitor(visits, address, until, random.Random(1000 * given.seed + number))
                for number in range(given.visitors)
            ]
            threads = [threading.Thread(target=visitor.come) for visitor in visitors]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            time.sleep(45)  # what the last ones brought goes
            over.set()
            watcher.join()
            end = look(server, 0)
            visits.errors += find_errors((Path(name) / "log").read_text())
        left = set(leftovers()) - before
    samples = [one for one in samples if one.processes]  # the last look may come after the server's end
    flat = [one for one in samples if one.seconds > RISE * 60 * given.minutes]
    slope, low, high = find_slope(flat)
    report(visits, samples, flat, end, left)
    print(f"\nMemory after the first {RISE:.0%}: {slope:+.0f} MiB an hour, 95 % interval {low:+.0f} to {high:+.0f}.")
    sys.exit(bool(visits.errors or left) or low > 0)


def report(visits: Visits, samples: list[Held], flat: list[Held], end: Held, left: set[Path]) -> None:
    """Print what came out."""
    print("| visits | |\n|---|---|")
    for kind, count in sorted(visits.done.items()):
        print(f"| {kind.replace('_', ' ')} | {count} |")
    rows = {"at the start": samples[0], "when it should be flat": flat[0], "at the end": end}
    print("\n| held by the server | memory in MiB | processes | threads | open files | files of sessions |")
    print("|---|---|---|---|---|---|")
    for when, one in rows.items():
        print(f"| {when} | {one.memory:.0f} | {one.processes} | {one.threads} | {one.files} | {one.folders} |")
    print(f"| most | {max(one.memory for one in samples):.0f} | {max(one.processes for one in samples)} | "
          f"{max(one.threads for one in samples)} | {max(one.files for one in samples)} | "
          f"{max(one.folders for one in samples)} |")  # fmt: skip
    print(f"\n{len(left)} files left{''.join(f', {file}' for file in left)}. {len(visits.errors)} errors.")
    for error in visits.errors[:20]:
        print(f"- {error[-1500:]}")


if __name__ == "__main__":
    main()
