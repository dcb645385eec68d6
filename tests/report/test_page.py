"""Both files are valid, complete, safe to open and replaced whole."""

import base64
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dad_edge.errors import StorageError
from dad_edge.image.pictures import InspectedImage
from dad_edge.report.examples import pick_examples
from dad_edge.report.metrics import kind_table
from dad_edge.report.page import render_page, write_report
from dad_edge.report.results import (
    SCHEMA_VERSION,
    Context,
    Figure,
    ImageScore,
    MeasuredData,
    MeasuredModel,
    Report,
    Summary,
    Weights,
)


def inspected(name: str, kind: str, score: float) -> InspectedImage:
    frame = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    heat = np.full((32, 40), round(score * 255), np.uint8)
    mask = None if kind == "good" else np.eye(32, 40, dtype=np.uint8)
    return InspectedImage(name, kind, score, frame, frame, heat, mask)


def make_report(images=None, **changes) -> Report:
    if images is None:
        images = [
            inspected("good/0.png", "good", 0.01),
            inspected("good/1.png", "good", 0.7),
            inspected("bent_pin/0.png", "bent_pin", 0.2),
            inspected("bent_pin/1.png", "bent_pin", 0.95),
        ]
    scores = [ImageScore(name=i.name, kind=i.kind, score=i.score) for i in images]
    image_of = {image.name: image for image in images}
    report = Report(
        title="Disc, test split",
        summary=Summary(
            image_auroc=Figure(value=0.75),
            pixel_auroc=Figure(value=0.9712),
            pixel_ap=Figure(value=0.5),
            pro=Figure(undefined="no marked defects"),
        ),
        threshold=0.5,
        threshold_origin="",
        kinds=kind_table([s.kind for s in scores], [s.score for s in scores], 0.5),
        context=make_context(),
        examples={
            group: [image_of[score.name] for score in picked]
            for group, picked in pick_examples(scores, 0.5).items()
        },
        scores=scores,
    )
    return replace(report, **changes)


def make_context(**environment) -> Context:
    return Context(
        backend="NumPy",
        model=MeasuredModel(size="nano", image_size=128, lambdas=(100, 200), fusion="average"),
        weights=Weights(form="checkpoint", name="run", sha256={"weights.safetensors": "00"}),
        seed=0,
        data=MeasuredData(
            name="disc",
            layout="MVTec AD",
            split="test",
            images=4,
            defective=2,
            defective_without_mask=0,
            sha256="11",
        ),
        seconds=1.5,
        images_per_second=2.67,
        environment=environment,
    )


FILES = ["report.html", "report.json", "sheet.png"]


class Page(HTMLParser):
    """Text, sources and open tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page.replace("<wbr>", ""))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_json_says_what_was_measured(tmp_path):
    page = write_report(make_report(), tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    data = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == SCHEMA_VERSION
    assert data["summary"] == {
        "image_auroc": 0.75,
        "pixel_auroc": 0.9712,
        "pixel_ap": 0.5,
        "pro": None,
    }
    assert data["threshold"] == 0.5
    assert data["scores"][3] == {"name": "bent_pin/1.png", "kind": "bent_pin", "score": 0.95}
    assert data["examples"]["worst"] == ["bent_pin/0.png", "good/1.png"]
    assert data["context"]["model"]["lambdas"] == [100, 200]
    assert data["context"]["checkpoint"] == {"run": "run", "sha256": {"weights.safetensors": "00"}}
    assert data["kinds"][1]["missed"] == 1
    assert sorted(file.name for file in page.parent.iterdir()) == FILES


def test_page_is_well_formed_self_contained_and_without_scripts():
    text = render_page(make_report())
    page = Page(text)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert "http" not in text
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 4 * 4 + 1
    for source in sources:
        encoded = re.fullmatch(r"data:image/(?:jpeg|png);base64,(.+)", source).group(1)
        data = np.frombuffer(base64.b64decode(encoded), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).ndim == 3
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    # A caption beside each picture for narrow screens, and one over each list for wide ones.
    assert page.words.count("Heat map") == 4 + 2


def test_page_says_figures_verdicts_and_errors_in_words():
    nvidia = {"gpus": [{"name": "L4", "memory_gib": 22.5}]}
    environment = {"packages": {"dad-edge": "0.1.0"}, "commit": None, "nvidia": nvidia}
    report = make_report(context=make_context(**environment))
    words = " ".join(" ".join(Page(render_page(report)).words).split())
    for expected in (
        "97.1 %",
        "not defined: no marked defects",
        "4 images: 2 good, 2 defective",
        "1 of 2 good parts are rejected and 1 of 2 defective parts pass",
        "REJECT good/1.png score 0.7000 truth: good false alarm",
        "OK bent_pin/0.png score 0.2000 truth: bent pin missed defect",
        "environment · packages · dad-edge 0.1.0",
        "environment · commit –",
        "environment · nvidia · gpus · 0 · name L4",
        "model · lambdas 100, 200",
    ):
        assert expected in words


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "</style></title><h1>&amp;'\"",
        "{{ 7 * 7 }}{% raw %}",
        "long" * 400,
        "fa\udce7ade \udcff",
    ],
)
def test_page_shows_every_name_as_it_is_and_stays_well_formed(tmp_path, hostile):
    images = [inspected(f"{hostile}/0.png", hostile, 0.2)]
    context = make_context(**{hostile: hostile})
    report = make_report(images, title=hostile, threshold_origin=hostile, context=context)
    text = write_report(report, tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    plain = {tag for tag, _ in Page(render_page(make_report())).tags}
    assert {tag for tag, _ in page.tags} <= plain
    shown = hostile.encode("utf-8", "backslashreplace").decode()
    words = [word.strip() for word in page.words]
    assert words.count(shown) == 4, "title, heading, kind, value in the context"
    assert f"{shown}/0.png" in words
    assert sum(shown in word for word in words) == 8, "also origin, truth, name in the context"
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (data["title"], data["scores"][0]["kind"]) == (hostile, hostile)


def test_kinds_without_good_parts_say_why_they_have_no_figure():
    kinds = kind_table(["dent", "dent"], [0.2, 0.9], 0.5)
    assert "not defined: no good images" in Page(render_page(make_report(kinds=kinds))).words


def test_page_of_a_faultless_test_set_says_so():
    images = [inspected("a", "good", 0.1), inspected("b", "dent", 0.9)]
    words = " ".join(Page(render_page(make_report(images))).words)
    assert "None: no defect was missed and no good part was rejected." in words


def test_page_of_an_empty_test_set_is_still_a_page():
    assert Page(render_page(make_report([], kinds=[]))).open == []


def test_a_failed_write_keeps_the_old_report_and_leaves_no_rubbish(tmp_path, monkeypatch):
    write_report(make_report(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_report(make_report(title="newer"), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES


def test_a_file_in_the_way_of_the_folder_is_a_storage_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="a file is in the way"):
        write_report(make_report(), tmp_path / "taken")
