"""The page: every section from its input, whatever is missing, and nothing from the network."""

import json
import re
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.page.analysis import rule_name
from pipelines.page.charts import Line, line_chart
from pipelines.registry import audit, promotion
from pipelines.registry.appending import Conflict
from pipelines.registry.client import connect
from pipelines.registry.gate import GateConfig, SanityConfig, decide
from pipelines.stages import entry, report
from pipelines.stages.report import Inputs

MODELS = ("finetune-nano", "finetune-tiny", "distill-nano")
DIGESTS = {name: name[0] * 8 + name[-4:] * 14 for name in MODELS}


def picture(path: Path, wh: tuple[int, int]) -> None:
    """A test card: a colour ramp with a number, which nobody takes for a result."""
    ramp = np.linspace(40, 200, wh[0], dtype=np.uint8)
    image = np.stack([np.tile(ramp, (wh[1], 1))] * 3, axis=-1)
    cv2.putText(
        image, f"TEST CARD {path.parent.name}", (20, wh[1] // 2), 0, wh[0] / 700, (255, 255, 255), 2
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """What the stages leave behind, with figures that are plainly made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    joints = ("nose", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist", "left_ankle")
    for n, name in enumerate(MODELS):
        AP = (0.111, 0.333, 0.222)[n]
        (metrics / f"{name}.json").write_text(
            json.dumps(
                {
                    "model": name, "AP": AP, "AP50": AP + 0.2, "AP75": AP, "APM": -1.0, "APL": AP,
                    "AR": AP + 0.1, "PCK": AP + 0.3, "parameters": 1234567 * (n + 1),
                    "images_per_second": 99.0 - n, "weights_digest": DIGESTS[name],
                    "data_digest": "d" * 64, "run_id": f"run{n}",
                    "per_joint": {joint: 0.9 - i / 10 for i, joint in enumerate(joints)},
                    "slices": {"one_person": AP + 0.1, "crowded": AP - 0.1},
                    "AP_interval": {"value": AP, "low": AP - 0.04, "high": AP + 0.05, "level": 0.95},
                    "error_kinds": {"good": 700, "jitter": 200, "inversion": 50, "swap": 10, "miss": 40},
                    "calibration": {"person_error": 0.0321, "keypoint_error": 0.0654},
                    "protocol": {"boxes": "ground truth", "flip_test": True},
                }
            )
        )  # fmt: skip
        history = [
            {"epoch": e, "step": e * 10, "loss": 0.01 / e**0.5 * (1 + n / 5), "lr": 1e-3,
             **({"AP": AP * (1 - 0.5**e)} if e % 2 == 0 else {})}
            for e in range(1, 13)
        ]  # fmt: skip
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "history.json").write_text(json.dumps(history))
        provenance = {"teacher": DIGESTS["finetune-tiny"], "distill": {"method": "both"}}
        (folder / "config.json").write_text(json.dumps({"provenance": provenance}))
        for sheet in ("gallery.jpg", "worst.jpg"):
            picture(tmp_path / "plots" / name / sheet, (1440, 480))
        plots = {
            "errors": [{"joint": j, "errors": 0.3, "good": 7, "jitter": 2, "inversion": 0, "swap": 0,
                        "miss": 1} for j in joints],
            "precision_recall": [{"recall": r / 50, "precision": max(0, 1 - r / 40)} for r in range(51)],
            "calibration_people": [{"score": s / 10, "OKS": s / 12, "count": 3} for s in range(1, 10)],
            "calibration_keypoints": [{"score": s / 10, "near": s / 11, "count": 3} for s in range(10)],
        }  # fmt: skip
        for plot, rows in plots.items():
            (tmp_path / "plots" / name / f"{plot}.json").write_text(json.dumps(rows))
    for size in ("nano", "tiny"):
        picture(tmp_path / "models" / f"mae-{size}" / "reconstructions.jpg", (600, 240))
        (tmp_path / "models" / f"mae-{size}" / "history.json").write_text(
            json.dumps([{"epoch": e, "loss": 0.9 / e + 0.1} for e in range(1, 21)])
        )
        (tmp_path / "models" / f"mae-{size}" / "config.json").write_text(
            json.dumps({"provenance": {"run_id": f"mae{size}"}})
        )
    picture(tmp_path / "models" / "token-tiny" / "attention.jpg", (768, 256))
    gain = {"loss_without": 2e-3, "loss_with": 1.9e-3, "standard_error": 1e-6, "batches": 8}
    (tmp_path / "models" / "token-tiny" / "config.json").write_text(
        json.dumps({"config": {"gain": gain}, "provenance": {"run_id": "token"}})
    )
    rule = {
        "candidate": 0.333, "champion": None, "limit": 0.3, "passed": True, "required": "at least 0.3",
    }  # fmt: skip
    decisions = [
        {"version": "2", "source": "finetune-tiny", "promoted": True, "reason": "first model: AP 0.333",
         "figures": {"minimum AP": rule, "model_bytes": {**rule, "candidate": 1234567}}},
        {"version": "3", "source": "distill-nano", "promoted": False, "reason": "AP 0.222 is too low",
         "figures": {}},
    ]  # fmt: skip
    (metrics / "registry.json").write_text(
        json.dumps(
            {
                "name": "vitpose", "version": "2", "model_uri": "models:/vitpose/2",
                "alias": "champion", "source": "finetune-tiny", "AP": 0.333, "run_id": "run1",
                "weights_digest": DIGESTS["finetune-tiny"], "data_digest": "d" * 64,
                "decisions": decisions,
            }
        )
    )  # fmt: skip
    (metrics / "prepare.json").write_text(
        json.dumps(
            {
                "train_people": 4321, "train_images": 2000, "val_people": 444, "val_images": 200,
                "rejected": 19, "reasons": {"no keypoint is labelled": 17, "box outside": 2},
            }
        )
    )  # fmt: skip
    return Inputs(models=MODELS, metrics=metrics, folder=tmp_path / "models", plots=tmp_path / "plots")


class Page(HTMLParser):
    """Open tags, to prove that they close; what would be fetched, and what a click would follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        where = self.links if tag == "a" else self.sources
        where += [v for k, v in attrs if k in ("src", "href") and v]
        self.ids += [v for k, v in attrs if k == "id" and v]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def headings(text: str) -> list[str]:
    found = re.findall(r"<h2 id=[^>]*>(.*?)</h2>", text, re.S)
    return [re.sub(r"<.*", "", h, flags=re.S).strip() for h in found]


def test_page_is_whole_and_needs_no_network(inputs):
    text = report.report(inputs)
    page = Page(text)
    assert page.open == []
    assert page.sources and all(s.startswith("data:") for s in page.sources)
    assert all(link.startswith(("#", "http://127.0.0.1:5000/#/runs/")) for link in page.links)
    assert "url(" not in text and "<script" not in text


def test_every_section_has_its_figures(inputs):
    text = report.report(inputs)
    assert headings(text) == [
        "Predictions beside the ground truth", "Models", "What was run", "Training", "Distillation",
        "Where finetune-tiny is strong and weak", "What goes wrong, and what a score is worth",
        "What pretraining learned", "Rows that were not used",
    ]  # fmt: skip
    for shown in ("0.333", "0.222", "first model: AP 0.333", "AP 0.222 is too low", "4,321", "2.47 M"):
        assert shown in text
    assert "+0.111 AP" in text, "the distilled student against the same size alone"
    assert text.index("<b>finetune-tiny") < text.index("<b>distill-nano") < text.index("<b>finetune-nano")
    assert "-1.000" not in text, "COCO's mark for nothing to judge is not an AP"


def test_the_contents_name_every_section_and_lead_to_it(inputs):
    text = report.report(inputs)
    page = Page(text)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert inside == [i for i in page.ids if i] and len(inside) == len(set(inside))
    contents = text[text.index('class="contents"') : text.index("</nav>")]
    assert re.findall(r">([^<>\n]+)</a>", contents) == headings(text)


def test_pictures_come_before_figures_and_the_protocol_is_folded(inputs):
    text = report.report(inputs)
    assert headings(text)[0] == "Predictions beside the ground truth"
    path = inputs.metrics / "registry.json"
    other = path.read_text().replace(DIGESTS["finetune-tiny"], DIGESTS["finetune-nano"])
    path.write_text(other.replace('"source": "finetune-tiny", "AP"', '"source": "finetune-nano", "AP"'))
    shown = re.findall(r"<details( open)?>\n *<summary>([\w-]+)</summary>", report.report(inputs))
    assert shown[0] == (" open", "finetune-nano"), "the champion's, though others have more AP"
    folded = text[text.index("<summary>Protocol of the figures") :]
    assert folded.index("ground truth") < folded.index("</details>")


def test_rules_of_the_gate_have_plain_names(inputs):
    text = report.report(inputs)
    for said in ("lowest AP of any champion", "bytes of the weights", "at least 0.3", "1.23 M"):
        assert said in text
    assert "model_bytes" not in text and "minimum AP" not in text


def test_every_rule_that_the_gate_knows_has_a_plain_name():
    figures = {
        "AP": 0.7, "data_digest": "d", "exports": {"onnx": {}}, "slices": {"a_b": 0.5},
        "heads": {"lsp": {"AP": 0.5}}, "images_per_second": 3.0, "model_bytes": 9, "skeleton": "s",
        "preprocessing": "p", "calibration": {"person_error": 0.1, "keypoint_error": 0.1},
    }  # fmt: skip
    config = GateConfig(sanity=SanityConfig(annotations="a", images="i"), shadow=0.5)
    for rule in decide(figures, figures, config).figures:
        assert rule_name(rule) != rule and "_" not in rule_name(rule), rule


@pytest.mark.parametrize(
    ("server", "address"),
    [
        (None, "http://127.0.0.1:5000/#/runs/run1"),
        ("https://ana:secret@mlflow.example/at/", "https://mlflow.example/at/#/runs/run1"),
    ],
)
def test_runs_are_links_into_mlflow(inputs, monkeypatch, server, address):
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        monkeypatch.setattr(report, "_history", lambda registry: None)  # would ask that server
    text = report.report(inputs)
    links = [link for link in Page(text).links if "/runs/" in link]
    assert address in links and "secret" not in text
    assert [link.rpartition("/")[2] for link in links[:3]] == ["maenano", "maetiny", "token"]
    assert ("make ui" in text) == (server is None)


def test_where_the_token_looks_stands_beside_what_it_gains(inputs):
    text = report.report(inputs)
    assert "Where the knowledge token of tiny looks" in text
    assert "0.002 without the token, 0.0019 with it" in text
    (inputs.folder / "token-tiny" / "config.json").write_text(json.dumps({"config": {"gain": None}}))
    assert "knowledge token" not in report.report(inputs)


def test_the_analysis_is_that_of_the_files(inputs):
    text = report.report(inputs)
    assert "0.293–0.383" in text, "the interval stands below the AP"
    shares = re.findall(r'<i style="[^"]*width: ([\d.]+)%" title="(\w+): (\d+) of ([\d,]+)"', text)
    assert shares.count(("5.0", "inversion", "50", "1,000")) == 3, "each model has its row"
    assert shares.count(("70.0", "good", "7", "10")) == 6, "each joint of the champion has its row"
    for said in (
        "What a score of finetune-tiny is worth",
        "people 0.032, keypoints 0.065",
        "The worst of",
    ):
        assert said in text
    assert text.count('class="guide"') == 1, "the dashed line of a score that is as good as it says"


def test_a_head_has_a_row_of_its_own(inputs):
    path = inputs.metrics / "finetune-tiny.json"
    heads = {"lsp": {"AP": 0.4321, "PCK": 0.8765, "instances": 77}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "heads": heads}))
    rows = re.findall(r"<tr>.*?finetune-tiny, head lsp.*?</tr>", report.report(inputs), re.DOTALL)
    (row,) = [row.rpartition("<tr>")[2] for row in rows]
    assert "0.432" in row and "0.876" in row and "77 people" in row


def test_counts_have_no_decimals(inputs):
    figures = {"mean_oks": 0.5, "identity_switches": 2, "people": 1234}
    (inputs.metrics / "label.json").write_text(json.dumps({"against_ground_truth": figures}))
    text = report.report(inputs)
    assert "<dd>2</dd>" in text and "<dd>1,234</dd>" in text and "<dd>0.500</dd>" in text


def test_optional_inputs_leave_their_sections_out(inputs, tmp_path):
    (inputs.metrics / "prepare.json").unlink()
    bare = Inputs(
        models=("finetune-tiny",), metrics=inputs.metrics, folder=tmp_path / "no", plots=tmp_path / "no"
    )
    text = report.report(bare)
    assert Page(text).open == []
    assert headings(text) == [
        "Models", "What was run", "Where finetune-tiny is strong and weak",
        "What goes wrong, and what a score is worth",
    ]  # fmt: skip
    path = inputs.metrics / "finetune-tiny.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in raw.items() if k not in ("error_kinds", "AP_interval")}))
    assert "What goes wrong" not in report.report(bare)


@pytest.mark.parametrize(
    ("file", "stage"), [("registry", "register"), ("finetune-tiny", "evaluate@finetune-tiny")]
)
def test_a_missing_required_file_is_one_clear_error(inputs, file, stage, monkeypatch, capsys):
    (inputs.metrics / f"{file}.json").unlink()
    command = "report --metrics metrics --models models --plots plots --out report/index.html"
    monkeypatch.setattr(sys, "argv", [*command.split(), *MODELS])
    with pytest.raises(SystemExit) as stopped:
        entry.run(report.main)
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{file}.json not found" in said and f"dvc repro {stage}" in said
    assert not Path("report/index.html").exists()


def test_command_line_writes_the_page(inputs, monkeypatch, capsys):
    command = "report --metrics metrics --models models --plots plots --out report/index.html"
    monkeypatch.setattr(sys, "argv", [*command.split(), *MODELS])
    report.main()
    assert Path("report/index.html").read_text().startswith("<!doctype html>")
    assert "report/index.html" in capsys.readouterr().out


def test_text_from_files_cannot_become_markup(inputs):
    path = inputs.metrics / "registry.json"
    path.write_text(path.read_text().replace("AP 0.222 is too low", "<script>alert(1)</script>"))
    assert "<script>" not in report.report(inputs)
    svg = line_chart("t", [Line(name="<b>", color=0, points=[(0, 1), (1, 2)])], x_label="epoch")
    assert "<b>" not in svg and "&lt;b&gt;" in svg


def test_an_older_champion_is_said_to_be_one(inputs):
    path = inputs.metrics / "registry.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "source": "finetune-old", "decisions": raw["decisions"][1:]}))
    text = report.report(inputs)
    assert "Champion since an earlier run" in text
    assert Page(text).open == []


def test_no_champion_is_said_first_with_the_reasons(inputs, tmp_path):
    path = inputs.metrics / "registry.json"
    raw = json.loads(path.read_text())
    none = dict.fromkeys(("version", "model_uri", "source", "AP", "weights_digest", "run_id"))
    refused = {"source": "finetune-tiny", "version": "2", "promoted": False, "figures": {}}
    decisions = [{**refused, "reason": "AP 0.333 is below 0.5"}]
    path.write_text(json.dumps({**raw, **none, "decisions": decisions}))
    waits = {"waits_for": "a champion: no model of 'vitpose' has passed the gate"}
    (inputs.metrics / "label.json").write_text(json.dumps(waits))
    (tmp_path / "labels").mkdir()
    text = report.report(replace(inputs, labels=tmp_path / "labels", archive=tmp_path))
    head = text[text.index("<header>") : text.index("</header>")]
    assert "No champion" in head and "finetune-tiny: AP 0.333 is below 0.5." in " ".join(head.split())
    assert "None yet: labelling waits for a champion" in text
    assert "Where finetune-tiny is strong and weak" in text  # the best that there is
    assert Page(text).open == [] and "None" not in head


@pytest.mark.parametrize(
    "pictures, said",
    [
        ("drawn", "Drawn people, no photographs: 2,000 images to learn from, 200 held out."),
        ("given", "Pictures of mice-train, mice-val: 2,000 images to learn from, 200 held out."),
    ],
)
def test_what_the_pictures_are_is_said_before_anything_else(inputs, pictures, said):
    path = inputs.metrics / "prepare.json"
    sources = ["mice-train", "mice-val"]
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "pictures": pictures, "sources": sources})
    )
    text = report.report(inputs)
    assert said in text and text.index(said) < text.index("<h1>")


def test_the_audit_log_is_held_against_the_kept_copy_of_its_end(inputs, three):
    promotion.promote("vitpose", "2", why="the reason of this test", who="ana")
    path = inputs.metrics / "registry.json"
    head = asdict(audit.history("vitpose").head)
    path.write_text(json.dumps({**json.loads(path.read_text()), "audit_head": head}))
    text = report.report(inputs)
    assert Page(text).open == []
    assert "the reason of this test" in text and "chain verified" in text
    connect().delete_model_version("vitpose-audit", "1")
    with pytest.raises(Conflict):
        promotion.promote("vitpose", "3", why="stumbles over the gap")
    promotion.promote("vitpose", "3", why="goes on")
    text = report.report(inputs)
    assert "not intact" in text and "the log was cut or rewritten" in text
