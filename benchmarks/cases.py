"""What ten thousand pictures with a table take: predicting, tabulating, figures, slices, filter, and the page.

Run: python -m benchmarks.cases [--count 10000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from explainers.cases.filters import Filter
from explainers.images import find
from sample_models import digits

Made = TypeVar("Made")


def write_pictures(folder: Path, count: int) -> None:
    """Write digits with noise as PNG files, in folders that name them, and a table of what is known of each."""
    rng, rows, names = np.random.default_rng(0), digits.read_rows(), list[str]()
    for number in range(count):
        row = rows[number % len(rows)]
        noise = rng.normal(0, 40 + 40 * (number % 3 == 0), (digits.SIZE, digits.SIZE))
        pixels = (digits.draw(row) + noise).clip(0, 255).astype(np.uint8)
        place = folder / str(row[64])
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:05}.png", compress_level=1)
        names.append(f"{row[64]}/{number:05}.png")
    labels = [name.partition("/")[0] for name in names]
    make_table(count).assign(image=names, label=labels).to_csv(folder / "table.csv", index=False)


def make_table(count: int) -> pd.DataFrame:
    """Make metadata: who wrote, where, how old, and how much noise."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "split": rng.choice(["train", "test"], count),
            "sex": rng.choice(["female", "male", ""], count),
            "age": rng.integers(18, 90, count),
            "site": rng.choice([f"site {number}" for number in range(12)], count),
            "device": rng.choice(["A", "B", "C"], count),
            "patient": [f"P{number}" for number in rng.integers(0, count // 2, count)],
            "weight": rng.normal(75, 12, count).round(1),
        }
    )


def tell(what: str, call: Callable[[], Made]) -> Made:
    start = time.perf_counter()
    made = call()
    print(f"| {what} | {time.perf_counter() - start:.3f} |", flush=True)
    return made


def measure(folder: Path) -> None:
    """Print the seconds of each step."""
    import sample_models
    from explainers.asking import ask
    from explainers.cases.arranging import arrange, read_material
    from explainers.cases.figures import calibrate, confuse, summarise
    from explainers.cases.outcomes import find_outcomes
    from explainers.cases.predictions import PredictAll, ask_about, find_predictions
    from explainers.cases.slices import find_slices
    from explainers.cases.table import tabulate, write_cases
    from explainers.images.contents import find_attachments

    model = sample_models.load("digits")
    samples = tell("list the folder", lambda: find(folder))
    attachments = find_attachments(folder)
    material = tell("read the table", lambda: read_material(attachments))
    dataset = tell("arrange", lambda: arrange(samples, material, model.info.class_names)).dataset
    about = tell("make the question", lambda: ask_about(model, samples))
    tell("predict", lambda: ask(PredictAll(), about).result())
    predictions = tell("find the predictions again", lambda: find_predictions(about))
    outcomes = tell("compare with labels", lambda: find_outcomes(model.info, dataset, predictions))
    table = tell("tabulate", lambda: tabulate(model.info, dataset, predictions, {}, outcomes))
    tell("figures", lambda: summarise(outcomes))
    tell("figures again", lambda: summarise(outcomes))
    tell("confusion and calibration", lambda: (confuse(outcomes), calibrate(outcomes)))
    slices = tell("slices", lambda: find_slices(outcomes, table))
    tell("slices again", lambda: find_slices(outcomes, table))
    print(f"  ({slices.tested} compared, {len(slices)} listed, {len(slices.failing)} fail)")
    chosen = Filter().only("data.site", "site 3").within("data.age", 40, 60).only("right", "no")
    tell("filter", lambda: chosen.apply(table))
    tell("write as CSV", lambda: write_cases(table))


def measure_page() -> None:
    """Print the seconds of a run of the page's script, everything but the browser."""
    from streamlit.testing.v1 import AppTest

    from tests.conftest import ROOT

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=600)
    app.session_state["chosen_model"], app.session_state["source"] = "digits", "Folder"
    app.session_state["seen_files"] = 0
    tell("open the first page", app.run)
    tell("open the page of failures", lambda: app.switch_page("pages/failures.py").run())
    assert not app.exception, app.exception
    tell("run it again", app.run)
    app.session_state["next_filter"] = Filter().only("data.site", "site 3")
    tell("filter it", app.run)
    print([title.value for title in app.markdown][:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        os.environ |= {"LIGHTBOX_CACHE": f"{name}/cache", "LIGHTBOX_DATA": str(folder)}
        print("| step | seconds |\n|---|---|")
        tell("write the pictures", lambda: write_pictures(folder, count))
        measure(folder)
        measure_page()


if __name__ == "__main__":
    main()
